//! Where a package index keeps a file: the page of its project.
//!
//! In: the page, as JSON (`application/vnd.pypi.simple.v1+json`) or HTML. Out: the file's address and, where the page
//! says it, its SHA-256. A page that does not name the file gives nothing.

use serde::Deserialize;

/// The forms of a page that are understood.
pub const ACCEPT: &str = "application/vnd.pypi.simple.v1+json, text/html;q=0.5";

#[derive(Deserialize)]
struct Page {
    files: Vec<File>,
}

#[derive(Deserialize)]
struct File {
    filename: String,
    url: String,
    #[serde(default)]
    hashes: std::collections::BTreeMap<String, String>,
}

/// A file as a page names it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Found {
    /// Its address.
    pub url: String,
    /// SHA-256, hexadecimal.
    pub sha256: Option<String>,
}

/// Looks for a file on the page at `page`.
#[must_use]
pub fn find(page: &str, text: &str, file: &str) -> Option<Found> {
    if let Ok(json) = serde_json::from_str::<Page>(text) {
        let found = json.files.into_iter().find(|listed| listed.filename == file)?;
        return Some(Found { url: join(page, &found.url), sha256: found.hashes.get("sha256").cloned() });
    }
    for part in text.split("href=").skip(1) {
        let Some(quote) = part.chars().next().filter(|c| matches!(c, '"' | '\'')) else { continue };
        let Some(link) = part[1..].split(quote).next() else { continue };
        let link = link.replace("&amp;", "&");
        let (address, fragment) = link.split_once('#').unwrap_or((&link, ""));
        let name = address.split('?').next().and_then(|path| path.rsplit('/').next()).unwrap_or_default();
        if decode(name) == file {
            let sha256 = fragment.split('&').find_map(|pair| pair.strip_prefix("sha256=")).map(str::to_owned);
            return Some(Found { url: join(page, address), sha256 });
        }
    }
    None
}

/// A link on a page, as an address of its own.
fn join(page: &str, link: &str) -> String {
    if link.contains("://") {
        return link.to_owned();
    }
    let (scheme, rest) = page.split_once("://").unwrap_or(("http", page));
    if let Some(other) = link.strip_prefix("//") {
        return format!("{scheme}://{other}");
    }
    let (host, path) = rest.split_once('/').unwrap_or((rest, ""));
    if link.starts_with('/') {
        return format!("{scheme}://{host}{link}");
    }
    // The page's own last part is left; the link's `..` go up from there.
    let path = path.split(['?', '#']).next().unwrap_or_default();
    let mut parts: Vec<&str> = path.split('/').collect();
    parts.pop();
    for part in link.split('/') {
        match part {
            ".." => drop(parts.pop()),
            "." => {}
            part => parts.push(part),
        }
    }
    format!("{scheme}://{host}/{}", parts.join("/"))
}

/// Takes `%2B` and the like out of a name.
#[must_use]
pub fn decode(text: &str) -> String {
    let bytes = text.as_bytes();
    let mut out = Vec::with_capacity(bytes.len());
    let mut at = 0;
    while at < bytes.len() {
        let code = (bytes[at] == b'%').then(|| text.get(at + 1..at + 3)).flatten();
        match code.and_then(|code| u8::from_str_radix(code, 16).ok()) {
            Some(byte) => {
                out.push(byte);
                at += 3;
            }
            None => {
                out.push(bytes[at]);
                at += 1;
            }
        }
    }
    String::from_utf8_lossy(&out).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    const FILE: &str = "nvidia_x-1.0+cu13-py3-none-any.whl";

    #[test]
    fn a_page_in_json_names_the_file() {
        let text = format!(
            r#"{{"meta": {{"api-version": "1.1"}}, "name": "nvidia-x", "files": [
                {{"filename": "nvidia_x-0.9.whl", "url": "../../f/old.whl", "hashes": {{}}}},
                {{"filename": "{FILE}", "url": "../../f/ab/{FILE}", "hashes": {{"sha256": "ab12"}}, "size": 3}}]}}"#
        );
        let found = find("https://index.example/simple/nvidia-x/", &text, FILE).unwrap();
        assert_eq!(found.url, format!("https://index.example/f/ab/{FILE}"));
        assert_eq!(found.sha256.as_deref(), Some("ab12"));
        assert_eq!(find("https://index.example/", &text, "other.whl"), None);
    }

    #[test]
    fn a_page_in_html_names_the_file() {
        let text = "<a href='/f/nvidia_x-0.9.whl'>old</a>\n\
                    <a href=\"https://files.example/a/nvidia_x-1.0%2Bcu13-py3-none-any.whl?a=1&amp;b=2#sha256=ab12\">x</a>";
        let found = find("https://index.example/simple/nvidia-x/", text, FILE).unwrap();
        assert_eq!(found.url, "https://files.example/a/nvidia_x-1.0%2Bcu13-py3-none-any.whl?a=1&b=2");
        assert_eq!(found.sha256.as_deref(), Some("ab12"));
        assert_eq!(find("https://index.example/", "<html>nothing here</html>", FILE), None);
    }

    #[test]
    fn links_are_joined_to_their_page() {
        for (page, link, expected) in [
            ("http://h:8/simple/x/", "y.whl", "http://h:8/simple/x/y.whl"),
            ("http://h/simple/x", "y.whl", "http://h/simple/y.whl"),
            ("http://h/simple/x/?a=b/c", "./y.whl", "http://h/simple/x/y.whl"),
            ("http://h/simple/x/", "../../f/y.whl", "http://h/f/y.whl"),
            ("https://h/simple/x/", "//g/y.whl", "https://g/y.whl"),
            ("https://h/simple/x/", "/y.whl", "https://h/y.whl"),
            ("https://h", "y.whl", "https://h/y.whl"),
        ] {
            assert_eq!(join(page, link), expected, "{page} {link}");
        }
    }
}
