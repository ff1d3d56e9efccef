// Small helpers: elements, lists that keep their elements, lines of figures, numbers and times for people.
// Text is always set as text, never as HTML: names and errors come from configurations and cameras.

const SVG = "http://www.w3.org/2000/svg";

/** An element; `attributes` named `class`, `text` or anything that setAttribute takes. */
export function element(name, attributes = {}, ...children) {
  const made = document.createElement(name);
  for (const [key, value] of Object.entries(attributes)) {
    if (value === null || value === undefined || value === false) continue;
    if (key === "text") made.textContent = value;
    else made.setAttribute(key, value === true ? "" : value);
  }
  made.append(...children.filter((child) => child !== null));
  return made;
}

/** Sets a text only where it differs, so that screen readers and selections are left alone. */
export function text(target, value) {
  if (target.textContent !== value) target.textContent = value;
}

/** Shows or hides. */
export function show(target, visible) {
  target.toggleAttribute("hidden", !visible);
}

/** Brings a list's elements in line with items: those that stay keep their element, and with it the focus. */
export function keyed(list, items, key, make, update) {
  const before = new Map([...list.children].map((child) => [child.dataset.key, child]));
  let at = list.firstElementChild;
  for (const item of items) {
    const name = key(item);
    let child = before.get(name);
    if (child) {
      before.delete(name);
    } else {
      child = make(item);
      child.dataset.key = name;
    }
    update(child, item);
    if (child === at) at = at.nextElementSibling;
    else list.insertBefore(child, at);
  }
  for (const gone of before.values()) gone.remove();
}

/** A line over the last minutes. `what` says to screen readers what it shows. */
export function spark(what) {
  const drawing = document.createElementNS(SVG, "svg");
  drawing.setAttribute("class", "spark");
  drawing.setAttribute("viewBox", "0 0 150 34");
  drawing.setAttribute("preserveAspectRatio", "none");
  drawing.setAttribute("role", "img");
  drawing.setAttribute("aria-label", what);
  for (const part of ["area", "line"]) {
    const path = document.createElementNS(SVG, "path");
    path.setAttribute("class", part);
    drawing.append(path);
  }
  return drawing;
}

/** Draws figures into a line; null leaves a hole. `top`: the value at the upper edge, default the largest. */
export function draw(drawing, figures = [], top = 0) {
  const [area, line] = drawing.children;
  const known = figures.filter((value) => value !== null);
  const height = Math.max(top, ...known, 1e-9) * 1.08;
  const step = 150 / Math.max(149, figures.length - 1);
  const left = 150 - (figures.length - 1) * step;
  const y = (value) => (33 - (32 * value) / height).toFixed(1);
  let strokes = "";
  let fill = "";
  let begun = null;
  figures.forEach((value, index) => {
    const x = (left + index * step).toFixed(1);
    if (value === null) {
      if (begun !== null) fill += `L${(left + (index - 1) * step).toFixed(1)} 34Z`;
      begun = null;
    } else if (begun === null) {
      begun = x;
      strokes += `M${x} ${y(value)}`;
      fill += `M${x} 34L${x} ${y(value)}`;
    } else {
      strokes += `L${x} ${y(value)}`;
      fill += `L${x} ${y(value)}`;
    }
  });
  if (begun !== null) fill += "L150 34Z";
  line.setAttribute("d", strokes);
  area.setAttribute("d", fill);
}

/** The last figure that is known, of the last few; null where there is none. */
export function latest(figures = []) {
  return figures.slice(-3).findLast((value) => value !== null) ?? null;
}

/** A number with about three digits. */
export function number(value, unit = "") {
  if (value === null || value === undefined) return "–";
  const digits = value >= 100 ? 0 : value >= 10 ? 1 : 2;
  return `${Number(value.toFixed(digits)).toLocaleString()}${unit}`;
}

/** Milliseconds, or seconds where there are many. */
export function millis(value) {
  if (value === null || value === undefined) return "–";
  if (value >= 10000) return number(value / 1000, " s");
  return value >= 0.1 ? number(value, " ms") : number(value * 1000, " µs");
}

/** Bytes. */
export function bytes(value) {
  if (value === null || value === undefined) return "–";
  const units = ["B", "kB", "MB", "GB", "TB"];
  let unit = 0;
  while (value >= 1000 && unit < units.length - 1) {
    value /= 1000;
    unit += 1;
  }
  return number(value, ` ${units[unit]}`);
}

/** A share of one. */
export function percent(value) {
  return value === null || value === undefined ? "–" : `${Math.round(value * 100)} %`;
}

/** A time of today as a time, others with their day. */
export function when(time) {
  const then = new Date(time);
  const today = then.toDateString() === new Date().toDateString();
  const day = today ? "" : `${then.toLocaleDateString([], { day: "numeric", month: "short" })} `;
  return day + then.toLocaleTimeString([], { hour: "2-digit", minute: "2-digit", second: "2-digit" });
}

/** How long, in one or two units. */
export function duration(milliseconds) {
  const seconds = Math.max(0, Math.round(milliseconds / 1000));
  if (seconds < 60) return `${seconds} s`;
  if (seconds < 3600) return `${Math.floor(seconds / 60)} min ${seconds % 60} s`;
  if (seconds < 86400) return `${Math.floor(seconds / 3600)} h ${Math.floor((seconds % 3600) / 60)} min`;
  return `${Math.floor(seconds / 86400)} d ${Math.floor((seconds % 86400) / 3600)} h`;
}
