// The status page: asks the daemon every two seconds while somebody looks, and shows what it says.
import { bytes, draw, duration, element, keyed, latest, millis, number, percent, show, spark, text, when } from "/draw.js";

const EVERY = 2000;
// Pictures that change all the time are slower for who asked for less motion.
const PICTURES = matchMedia("(prefers-reduced-motion: reduce)").matches ? 10000 : 1000;

const at = (id) => document.getElementById(id);
let paused = false;
let looking = null;
let ahead = 0;
let seen = null;
const visible = new Set();

/** Asks the daemon; throws where it does not answer. */
async function ask(path) {
  const answer = await fetch(path, { cache: "no-store", signal: AbortSignal.timeout(8000) });
  if (answer.status === 401) {
    location.assign("/login");
    throw new Error("logged out");
  }
  if (!answer.ok) throw new Error((await answer.json().catch(() => ({}))).error ?? `answer ${answer.status}`);
  return answer.json();
}

const STATES = {
  running: "good", connected: "good", ready: "good", recording: "good", full: "bad", starting: "warn", connecting: "warn", restarting: "warn",
  waiting: "warn", down: "warn", building: "warn", stale: "warn", missing: "warn", ended: "", disabled: "", off: "",
  stopped: "", failed: "bad", quarantined: "bad", refused: "bad", unreachable: "bad", bad: "bad",
};
const GRAVE = { info: "", low: "", medium: "warn", high: "bad", critical: "bad" };

function pill(target, word, kind = STATES[word] ?? "") {
  text(target, word);
  target.className = `pill ${kind}`;
}

function figure(label, what) {
  const made = element("div", { class: "figure" });
  made.shown = element("b");
  made.line = spark(what);
  made.append(element("div", { class: "label" }, element("span", { text: label }), made.shown), made.line);
  return made;
}

/* Streams. */

function makeStream([name]) {
  const card = element("li");
  card.state = element("span", { class: "pill" });
  card.image = element("img", { alt: "", hidden: true });
  card.nothing = element("span", { class: "nothing", text: "no picture yet" });
  card.button = element("button", { class: "picture", type: "button", "aria-label": `${name}: show the live picture larger` },
    card.image, card.nothing, card.state);
  card.button.addEventListener("click", () => view(name, card.image.src && !card.image.hidden ? card.image.src : null, name));
  card.meta = element("p", { class: "muted" });
  card.problem = element("p", { class: "problem", hidden: true });
  card.warning = element("p", { class: "warning", hidden: true });
  card.size = element("span", { class: "muted" });
  card.fps = figure("frames a second", `${name}: frames a second over the last minutes`);
  card.latency = figure("latency p99", `${name}: latency over the last minutes, 99th percentile`);
  card.append(card.button, element("article", { class: "card-text", "aria-label": `Stream ${name}` },
    element("header", {}, element("h3", { text: name }), card.size),
    card.meta, card.problem, card.warning, element("div", { class: "lines" }, card.fps, card.latency)));
  card.name = name;
  watcher.observe(card);
  return card;
}

function showStream(card, [name, stream], series) {
  pill(card.state, stream.state);
  text(card.size, [stream.size, stream.lane === "unknown" ? null : stream.lane].filter(Boolean).join(" · "));
  const counts = [`${stream.frames.toLocaleString()} frames`];
  if (stream.skipped) counts.push(`inference skipped ${stream.skipped.toLocaleString()}`);
  if (stream.dropped) counts.push(`dropped ${stream.dropped.toLocaleString()}`);
  if (stream.reconnects) counts.push(`${stream.reconnects} reconnects`);
  text(card.meta, `${stream.source} · ${counts.join(", ")}`);
  const bad = stream.state !== "running" && stream.error;
  show(card.problem, Boolean(bad));
  text(card.problem, bad ? stream.error : "");
  const warnings = [...(stream.warnings ?? []), ...stream.outputs.filter((output) => output.error).map((output) => `output ${output.name}: ${output.error}`)];
  show(card.warning, warnings.length > 0);
  text(card.warning, warnings.join(" · "));
  const lines = series.streams[name] ?? {};
  text(card.fps.shown, number(latest(lines.fps)));
  draw(card.fps.line, lines.fps);
  text(card.latency.shown, millis(latest(lines.p99_ms)));
  draw(card.latency.line, lines.p99_ms);
  card.live = stream.state === "running";
  if (!card.live) nothing(card, stream.state === "starting" ? "starting …" : stream.state);
}

function nothing(card, why) {
  show(card.nothing, true);
  text(card.nothing, why);
  show(card.image, false);
}

async function picture(card) {
  if (card.asking || !card.live) return;
  card.asking = true;
  try {
    const answer = await fetch(`/api/streams/${card.name}/thumbnail.jpg`, { cache: "no-cache", signal: AbortSignal.timeout(8000) });
    if (answer.status === 204) {
      nothing(card, answer.headers.get("watchpost-reason") ?? "no picture");
      return;
    }
    const tag = answer.headers.get("etag");
    if (!answer.ok || tag === card.tag) return;
    card.tag = tag;
    const old = card.image.src;
    card.image.src = URL.createObjectURL(await answer.blob());
    await card.image.decode().catch(() => {});
    card.image.alt = `${card.name}, live`;
    show(card.image, true);
    show(card.nothing, false);
    if (viewing === card.name && at("viewer").open) at("viewer-body").firstElementChild.src = card.image.src;
    if (old.startsWith("blob:")) URL.revokeObjectURL(old);
  } catch {
    // The next look at the status says what is wrong.
  } finally {
    card.asking = false;
  }
}

const watcher = new IntersectionObserver((entries) => {
  for (const entry of entries) {
    if (entry.isIntersecting) visible.add(entry.target);
    else visible.delete(entry.target);
  }
});

setInterval(() => {
  if (paused || document.hidden) return;
  for (const card of visible) {
    if (card.isConnected) picture(card);
    else visible.delete(card);
  }
}, PICTURES);

/* The larger view. */

let viewing = null;

function view(title, source, live, video = false) {
  const body = at("viewer-body");
  text(at("viewer-title"), title);
  const shown = video
    ? element("video", { src: source, controls: true, autoplay: true, muted: true, playsinline: true, "aria-label": title })
    : element("img", { alt: title });
  if (!video && source) shown.src = source;
  body.replaceChildren(shown);
  viewing = live;
  at("viewer").showModal();
}

at("viewer").addEventListener("close", () => {
  viewing = null;
  at("viewer-body").replaceChildren();
});

/* Alerts. */

function makeAlert(alert) {
  const row = element("li");
  row.shot = element("button", { class: "shot", type: "button" });
  row.kind = element("b");
  row.grave = element("span", { class: "pill" });
  row.time = element("time", { class: "muted" });
  row.more = element("p", { class: "muted" });
  row.clip = element("button", { type: "button", text: "Play clip", hidden: true });
  row.what = `${alert.kind} on ${alert.stream}`;
  row.clip.addEventListener("click", () => view(row.what, row.video, null, true));
  row.shot.addEventListener("click", () => row.picture && view(row.what, row.picture, null));
  row.append(row.shot, element("div", {}, element("div", { class: "what" }, row.kind, row.grave), row.time, row.more),
    element("div", { class: "more" }, row.clip));
  return row;
}

function showAlert(row, alert) {
  row.className = alert.ended ? "" : "open";
  text(row.kind, row.what);
  pill(row.grave, alert.severity, GRAVE[alert.severity]);
  const begin = alert.begin ?? alert.last;
  row.time.dateTime = new Date(begin).toISOString();
  const lasted = duration(alert.last - begin);
  text(row.time, `${when(begin)} · ${alert.ended ? `lasted ${lasted}` : `goes on, ${lasted} so far`}`);
  const why = alert.ended && alert.reason ? ` · ${alert.reason}` : "";
  text(row.more, `score ${alert.score.toFixed(2)} · ${alert.plugin} · incident ${alert.incident}${why}`);
  if (alert.snapshot !== (row.picture ?? null)) {
    row.picture = alert.snapshot;
    row.shot.replaceChildren(...(alert.snapshot ? [element("img", { src: alert.snapshot, alt: "", loading: "lazy" })] : []));
  }
  // Without a picture there is nothing to open.
  row.shot.disabled = !alert.snapshot;
  row.shot.setAttribute("aria-label", alert.snapshot ? `Snapshot: ${row.what}` : "no snapshot");
  if (!alert.snapshot) text(row.shot, "no snapshot");
  row.video = alert.clip;
  show(row.clip, Boolean(alert.clip));
  row.clip.setAttribute("aria-label", `Play clip: ${row.what}, ${when(begin)}`);
}

/** Says aloud what began or ended since the last look. */
function tell(alerts) {
  const now = new Map(alerts.map((alert) => [`${alert.stream}/${alert.incident}`, alert]));
  if (seen) {
    const news = [];
    for (const [key, alert] of now) {
      const before = seen.get(key);
      if (!before && !alert.ended) news.push(`${alert.kind} began on ${alert.stream}, severity ${alert.severity}`);
      else if (before && !before.ended && alert.ended) news.push(`${alert.kind} on ${alert.stream} is over`);
    }
    if (news.length) text(at("news"), `${news.join(". ")}.`);
  }
  seen = now;
}

/* The box, models, plugins. */

function tiles(status, alerts) {
  const streams = Object.values(status.streams);
  const running = streams.filter((stream) => stream.state === "running").length;
  const wrong = streams.some((stream) => ["failed", "quarantined", "down"].includes(stream.state));
  const open = alerts.filter((alert) => !alert.ended).length;
  const mqtt = status.mqtt;
  const disk = status.health.disk_size ? status.health.disk_free / status.health.disk_size : null;
  const items = [
    ["streams running", `${running} of ${streams.length}`, wrong ? "bad" : running === streams.length ? "good" : "warn"],
    ["alerts going on", String(open), open ? "bad" : "good"],
    ["broker", mqtt.state, STATES[mqtt.state] ?? ""],
    ["events waiting", mqtt.pending.toLocaleString(), mqtt.outbox.durable ? (mqtt.pending > 100 ? "warn" : "good") : "bad"],
    ["processor", percent(status.health.cpu), status.health.cpu > 0.95 ? "warn" : "good"],
    ["disk free", bytes(status.health.disk_free), disk !== null && disk < 0.05 ? "bad" : "good"],
  ];
  keyed(at("tiles"), items, ([label]) => label, ([label]) => {
    const tile = element("li");
    tile.shown = element("b");
    tile.append(tile.shown, element("span", { class: "muted", text: label }));
    return tile;
  }, (tile, [, value, kind]) => {
    text(tile.shown, value);
    tile.className = kind;
  });
}

function health(status, series) {
  const health = status.health;
  const lines = series.box.box ?? {};
  const mqtt = status.mqtt;
  const items = [
    { name: "Processor", value: percent(health.cpu), share: health.cpu, note: `Watchpost: ${number(health.daemon_cpu)} cores`, line: lines.cpu, top: 1 },
    { name: "Memory", value: `${bytes(health.memory_used)} of ${bytes(health.memory_size)}`, share: health.memory_size ? health.memory_used / health.memory_size : null, note: `Watchpost: ${bytes(health.daemon_memory)}`, line: lines.memory, top: health.memory_size },
    { name: "Disk", value: `${bytes(health.disk_free)} free`, share: health.disk_size ? 1 - health.disk_free / health.disk_size : null, note: `of ${bytes(health.disk_size)}, where the state is` },
    { name: "Broker", value: mqtt.state, note: [mqtt.broker, mqtt.error].filter(Boolean).join(" · "), word: true },
    { name: "Outbox", value: `${mqtt.pending.toLocaleString()} events`, note: `${bytes(mqtt.outbox_bytes)} on disk${mqtt.outbox.dropped ? `, ${mqtt.outbox.dropped} dropped` : ""}${mqtt.outbox.error ? ` · ${mqtt.outbox.error}` : ""}`, line: lines.outbox },
  ];
  const record = status.record;
  if (record) {
    const kept = `${record.files.toLocaleString()} recordings, ${bytes(record.bytes)}`;
    items.push({ name: "Recording", value: record.state, note: [kept, record.dropped ? `${record.dropped} dropped` : null, record.error].filter(Boolean).join(" · "), word: true });
  }
  for (const gpu of status.gpu.gpus ?? []) {
    items.push({ name: `GPU ${gpu.index}`, value: gpu.lost ? "lost" : gpu.sm == null ? "–" : `${gpu.sm} %`, share: gpu.memory_total ? gpu.memory_used / gpu.memory_total : null, note: gpu.lost ?? `${gpu.name ?? ""} · memory ${bytes(gpu.memory_used)} of ${bytes(gpu.memory_total)} · ${number(gpu.temperature, " °C")} · ${number(gpu.power, " W")}`, line: series.box[`gpu${gpu.index}`]?.sm, top: 1 });
  }
  if (!items.some((item) => item.name.startsWith("GPU"))) items.push({ name: "GPU", value: "none", note: status.gpu.missing ?? "" });
  keyed(at("health-list"), items, (item) => item.name, (item) => {
    const made = element("li");
    made.shown = element("b");
    made.meter = element("meter", { min: 0, max: 1, low: 0.8, high: 0.95, optimum: 0, "aria-label": `${item.name}: share in use` });
    made.line = spark(`${item.name} over the last minutes`);
    made.note = element("p", { class: "muted" });
    made.append(element("div", { class: "label" }, element("h3", { text: item.name }), made.shown), made.meter, made.line, made.note);
    return made;
  }, (made, item) => {
    if (item.word) pill(made.shown, item.value);
    else text(made.shown, item.value);
    show(made.meter, item.share != null);
    if (item.share != null) made.meter.value = item.share;
    show(made.line, Boolean(item.line));
    if (item.line) draw(made.line, item.line, item.top);
    text(made.note, item.note);
  });
}

/** A table's rows: the first cell is the row's head; the others know their column's name, for small screens. */
function rows(id, items, key, cells) {
  const table = at(id);
  const labels = [...table.tHead.rows[0].cells].map((cell) => cell.textContent);
  show(table, items.length > 0);
  show(table.nextElementSibling, items.length === 0);
  keyed(table.tBodies[0], items, key, () => {
    const row = element("tr");
    labels.forEach((label, index) => row.append(index === 0 ? element("th", { scope: "row" }) : element("td", { "data-label": label })));
    return row;
  }, (row, item) => cells(row, item).forEach((value, index) => {
    const cell = row.cells[index];
    if (typeof value === "string") return text(cell, value);
    if (!cell.made) {
      cell.made = value.make();
      cell.append(cell.made);
    }
    value.update(cell.made);
  }));
}

const badge = (word, kind) => ({ make: () => element("span", { class: "pill" }), update: (made) => pill(made, word, kind) });

function models(status, series) {
  rows("model-table", status.models, (model) => `${model.name}/${model.lane}/${model.gpu ?? ""}`, (row, model) => {
    const lines = series.models[model.name] ?? {};
    const engine = model.engine ? `${model.engine.state}${model.engine.reason ? `: ${model.engine.reason}` : ""}` : "–";
    return [
      model.gpu == null ? model.name : `${model.name} on GPU ${model.gpu}`,
      model.provider ?? "nothing yet",
      number(latest(lines.rate)),
      `${millis(latest(lines.p50_ms))} / ${millis(latest(lines.p99_ms))}`,
      { make: () => spark(`${model.name}: time of a run over the last minutes`), update: (made) => draw(made, lines.p99_ms) },
      model.progress ?? engine,
    ];
  });
}

function plugins(status) {
  const entries = Object.values(status.streams).flatMap((stream) => stream.plugins ?? []);
  rows("entry-table", entries, (entry) => `${entry.stream}/${entry.entry}`, (row, entry) => [
    `${entry.stream} / ${entry.entry}`,
    `${entry.plugin} ${entry.version ?? ""}`.trim(),
    badge(entry.state),
    entry.calls.toLocaleString(),
    `${millis(entry.p50_seconds * 1000)} / ${millis(entry.p99_seconds * 1000)}`,
    bytes(entry.memory),
    entry.failures ? `${entry.failures}${entry.message ? `: ${entry.message}` : ""}` : entry.message || "0",
  ]);
  const problems = status.plugins.filter((plugin) => plugin.error);
  keyed(at("plugin-problems"), problems, (plugin) => plugin.file, () => element("li", { class: "problem" }),
    (item, plugin) => text(item, `${plugin.file}: ${plugin.error}`));
}

/* One look after the other. */

function showAll(status, series, alerts) {
  text(at("box"), status.box);
  text(at("about"), `up ${duration(Date.now() - Date.parse(status.since))}`);
  text(at("version"), `Watchpost ${status.version}`);
  show(at("logout"), Boolean(status.http?.token));
  const open = alerts.filter((alert) => !alert.ended).length;
  document.title = `${open ? `(${open}) ` : ""}${status.box} · Watchpost`;
  tiles(status, alerts);
  const streams = Object.entries(status.streams);
  show(at("no-streams"), streams.length === 0);
  keyed(at("stream-list"), streams, ([name]) => name, makeStream, (card, stream) => showStream(card, stream, series));
  show(at("no-alerts"), alerts.length === 0);
  keyed(at("alert-list"), alerts, (alert) => `${alert.stream}/${alert.incident}`, makeAlert, showAlert);
  tell(alerts);
  health(status, series);
  models(status, series);
  plugins(status);
}

async function look() {
  clearTimeout(ahead);
  if (looking || document.hidden || paused) return;
  looking = true;
  try {
    const [status, series, alerts] = await Promise.all([ask("/api/status"), ask("/api/series"), ask("/api/alerts")]);
    showAll(status, series, alerts.alerts);
    show(at("trouble"), false);
    document.body.dataset.state = "shown";
  } catch (error) {
    text(at("trouble"), `The daemon does not answer (${error.message}); what is shown is old. Trying again …`);
    show(at("trouble"), true);
  } finally {
    looking = null;
    ahead = setTimeout(look, EVERY);
  }
}

at("pause").addEventListener("click", () => {
  paused = !paused;
  at("pause").setAttribute("aria-pressed", String(paused));
  text(at("news"), paused ? "The page is paused." : "The page goes on.");
  if (!paused) look();
});
document.addEventListener("visibilitychange", look);
look();
