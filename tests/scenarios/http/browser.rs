//! The status page as a person has it: in a real browser, on a phone, with a keyboard, without internet.

use std::collections::BTreeSet;

use e2e::browser::{Browser, ENTER, ESCAPE, TAB};
use e2e::daemon::{Daemon, free_port};
use serde_json::{Value, json};

const SHOWN: &str = "return document.body.dataset.state === 'shown'";

fn texts(value: &Value) -> Vec<String> {
    value.as_array().into_iter().flatten().filter_map(Value::as_str).map(str::to_owned).collect()
}

/// Every request that the page made went to where it came from.
fn nothing_from_elsewhere(browser: &Browser, origin: &str) {
    let asked = texts(
        &browser.script("return performance.getEntries().map(e => e.name).filter(n => n.includes('://'))"),
    );
    assert!(asked.len() > 5, "{asked:?}");
    for address in asked {
        let own = address.strip_prefix("blob:").unwrap_or(&address);
        assert!(own.starts_with(origin), "{address} is not of {origin}");
    }
}

/// The contrast of every text that is seen against what is behind it, by WCAG's rule; those below `AA`.
const PALE: &str = r#"
    const light = (c) => { const v = c.map((x) => { x /= 255; return x <= 0.04045 ? x / 12.92 : ((x + 0.055) / 1.055) ** 2.4; });
        return 0.2126 * v[0] + 0.7152 * v[1] + 0.0722 * v[2]; };
    const parse = (text) => (text.match(/[\d.]+/g) ?? []).map(Number);
    const behind = (element) => { for (let at = element; at; at = at.parentElement) {
        const color = parse(getComputedStyle(at).backgroundColor);
        if (color.length === 3 || color[3] > 0.99) return color; } return parse(getComputedStyle(document.documentElement).backgroundColor); };
    const pale = [];
    for (const element of document.querySelectorAll('body *')) {
        const own = [...element.childNodes].some((node) => node.nodeType === 3 && node.textContent.trim());
        if (!own || !element.checkVisibility() || element.closest('.unseen, .skip, noscript')) continue;
        const style = getComputedStyle(element);
        const [a, b] = [light(parse(style.color).slice(0, 3)), light(behind(element).slice(0, 3))];
        const contrast = (Math.max(a, b) + 0.05) / (Math.min(a, b) + 0.05);
        const size = parseFloat(style.fontSize);
        const large = size >= 24 || (size >= 18.66 && Number(style.fontWeight) >= 700);
        if (contrast < (large ? 3 : 4.5)) pale.push(`${element.tagName} "${element.textContent.slice(0, 30)}" ${contrast.toFixed(2)}`);
    }
    return pale;
"#;

/// Presses the tabulator until the focus is where it was; the controls it came by, each with its focus to be seen.
fn tab_round(browser: &Browser) -> BTreeSet<String> {
    browser.run("document.activeElement?.blur(); window.scrollTo(0, 0)");
    let mut seen = BTreeSet::new();
    for _ in 0..80 {
        browser.press(TAB);
        let at = browser.script(
            "const at = document.activeElement; if (!at || at === document.body) return null;
             const style = getComputedStyle(at);
             return { name: at.id || at.getAttribute('aria-label') || at.textContent.trim(),
                      outline: parseFloat(style.outlineWidth), kind: style.outlineStyle,
                      fits: at.getBoundingClientRect().width > 0 };",
        );
        let Some(name) = at["name"].as_str() else { break };
        assert!(
            at["kind"] != "none" && at["outline"].as_f64().unwrap() >= 2.0,
            "the focus of {name} cannot be seen: {at}"
        );
        assert_eq!(at["fits"], true, "{name}");
        if !seen.insert(name.to_owned()) {
            break;
        }
    }
    seen
}

#[test]
fn the_page_shows_what_happens_and_is_for_everybody() {
    let folder = tempfile::tempdir().unwrap();
    let port = free_port();
    let origin = format!("http://127.0.0.1:{port}/");
    let daemon = Daemon::start(folder.path(), &super::config(port, "off"));
    super::served(&daemon);
    let browser = Browser::start();
    browser.open(&origin);
    browser.wait("the page shows something", SHOWN);
    let mark = browser.script("window.mark = 'same page'; return window.mark");
    assert_eq!(mark, "same page");

    // The stream, with a live picture of its own size that changes.
    let size = browser.wait(
        "a picture of the stream",
        "const image = document.querySelector('#stream-list img'); \
         return image && !image.hidden && image.naturalWidth > 0 && [image.naturalWidth, image.naturalHeight]",
    );
    assert!(size[0].as_u64().unwrap() >= 160 && size[1].as_u64().unwrap() >= 90, "{size}");
    browser.run("window.first = document.querySelector('#stream-list img').src");
    browser
        .wait("the next picture", "return document.querySelector('#stream-list img').src !== window.first");
    assert_eq!(browser.script("return document.querySelector('#stream-list h3').textContent"), "square");
    browser.wait(
        "a line of its rate",
        "return (document.querySelector('#stream-list .spark .line').getAttribute('d') ?? '').includes('L')",
    );
    let entries = texts(
        &browser
            .script("return [...document.querySelectorAll('#entry-table tbody th')].map(c => c.textContent)"),
    );
    let entries = BTreeSet::from_iter(entries);
    assert_eq!(entries, ["square / fights", "square / follow", "square / tracker"].map(str::to_owned).into());

    // An alert comes while somebody looks: into the list, the title, and to a screen reader.
    browser.wait("an alert", "return document.querySelector('#alert-list li') !== null");
    assert_eq!(browser.script("return window.mark"), "same page", "it was loaded again");
    let alert = browser.script("return document.querySelector('#alert-list li').innerText");
    assert!(alert.as_str().unwrap().contains("violence on square"), "{alert}");
    browser.wait(
        "it is told aloud",
        "return /violence (began|on)/.test(document.getElementById('news').textContent)",
    );
    assert_eq!(browser.script("return document.getElementById('news').getAttribute('aria-live')"), "polite");

    // Its snapshot is a picture, and is shown larger.
    browser.wait(
        "the alert's snapshot",
        "const image = document.querySelector('#alert-list .shot img'); return image && image.naturalWidth > 0",
    );
    browser.run("document.querySelector('#alert-list .shot:not(:disabled)').click()");
    browser.wait(
        "it is larger",
        "const i = document.querySelector('#viewer[open] img'); return i && i.naturalWidth > 0",
    );
    browser.press(ESCAPE);
    browser.wait("it is closed", "return !document.getElementById('viewer').open");

    // Light and dark, every text can be read.
    for scheme in ["light", "dark"] {
        let features = json!({ "features": [{ "name": "prefers-color-scheme", "value": scheme }] });
        browser.devtools("Emulation.setEmulatedMedia", &features);
        let pale = texts(&browser.script(PALE));
        assert!(pale.is_empty(), "{scheme}: {pale:#?}");
    }

    // With a keyboard: every control is reached, is named, and shows that it has the focus.
    let reached = tab_round(&browser);
    let controls = texts(&browser.script(
        "return [...document.querySelectorAll('a[href], button')].filter(e => e.checkVisibility() && !e.disabled)
            .map(e => e.id || e.getAttribute('aria-label') || e.textContent.trim())",
    ));
    for control in &controls {
        assert!(!control.is_empty() && reached.contains(control), "{control} is not reached; {reached:?}");
    }
    assert!(controls.len() >= 10, "{controls:?}");
    browser.run("document.querySelector('#stream-list .picture').focus()");
    browser.press(ENTER);
    browser.wait(
        "the larger picture",
        "const i = document.querySelector('#viewer[open] img'); return i && i.naturalWidth > 0",
    );
    browser.press(ESCAPE);
    browser.wait("it is closed", "return !document.getElementById('viewer').open");
    assert_eq!(browser.script("return document.activeElement.className"), "picture", "the focus is back");

    // On a phone: nothing is wider than the screen.
    browser.phone(360, 740);
    browser.open(&origin);
    browser.wait("the page shows something", SHOWN);
    browser.wait("the alert is there", "return document.querySelector('#alert-list li') !== null");
    let wide = browser.script(
        "return [document.documentElement.scrollWidth, window.innerWidth,
            ...[...document.querySelectorAll('main *')].filter(e => e.checkVisibility() && !e.closest('thead, svg')
                && e.getBoundingClientRect().right > window.innerWidth + 1).map(e => e.tagName + '.' + e.className)]",
    );
    assert_eq!(
        (wide[0].as_u64(), wide[1].as_u64(), wide.as_array().unwrap().len()),
        (Some(360), Some(360), 2),
        "{wide}"
    );

    // Paused it asks nothing.
    browser.run("document.getElementById('pause').click()");
    assert_eq!(
        browser.script("return document.getElementById('pause').getAttribute('aria-pressed')"),
        "true"
    );

    nothing_from_elsewhere(&browser, &origin);
    let named = browser.script(
        "return [...document.querySelectorAll('img')].every(i => i.hasAttribute('alt'))
            && document.querySelectorAll('body > header, nav, main, body > footer, h1').length === 5
            && document.documentElement.lang === 'en'",
    );
    assert_eq!(named, true, "landmarks, a language, names of pictures");
    let log = browser.log();
    assert!(log.is_empty(), "the console: {log:#?}");
    drop(browser);
    assert!(daemon.stop().success());
}

#[test]
fn a_browser_logs_in_with_the_token() {
    let folder = tempfile::tempdir().unwrap();
    let port = free_port();
    let origin = format!("http://127.0.0.1:{port}");
    let token = folder.path().join("token");
    std::fs::write(&token, "correct horse battery\n").unwrap();
    let text = format!(
        "box.name = \"gate\"\nmqtt.url = \"off\"\n[http]\nlisten = \"127.0.0.1:{port}\"\ntoken_file = \"{}\"\n",
        token.display()
    );
    let daemon = Daemon::start(folder.path(), &text);
    super::served(&daemon);
    let browser = Browser::start();
    browser.open(&format!("{origin}/"));
    browser
        .wait("the form", "return location.pathname === '/login' && document.activeElement.id === 'token'");
    assert!(browser.log().is_empty());
    browser.press("wrong horse battery");
    browser.press(ENTER);
    browser.wait(
        "it is refused",
        "return document.querySelector('[role=alert]')?.textContent.includes('not the token')",
    );
    // The browser itself says that the answer was 401.
    let log = browser.log();
    assert!(log.iter().all(|line| line.contains("401")), "{log:?}");
    browser.wait("the form again", "return document.activeElement.id === 'token'");
    browser.press("correct horse battery");
    browser.press(ENTER);
    browser.wait("the page", "return location.pathname === '/' && document.body.dataset.state === 'shown'");
    assert_eq!(browser.script("return document.getElementById('box').textContent"), "gate");
    assert_eq!(browser.script("return document.cookie"), "", "no script sees the cookie");
    assert_eq!(browser.script("return document.getElementById('no-streams').checkVisibility()"), true);
    nothing_from_elsewhere(&browser, &format!("{origin}/"));
    browser.run("document.querySelector('#logout button').click()");
    browser.wait("it is logged out", "return location.pathname === '/login'");
    browser.open(&format!("{origin}/"));
    browser.wait("the form", "return location.pathname === '/login'");
    let log = browser.log();
    assert!(log.is_empty(), "the console: {log:#?}");
    drop(browser);
    assert!(daemon.stop().success());
}
