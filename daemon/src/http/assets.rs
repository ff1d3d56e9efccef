//! What a browser gets: the page, its style and script, the login form. All of it is in the binary.
//!
//! In: a path. Out: the file, with a tag by which a browser knows that it has it already.

use std::sync::LazyLock;

use hyper::{HeaderMap, StatusCode, header};
use sha2::{Digest, Sha256};

use super::answer::{self, Answer};

struct Asset {
    path: &'static str,
    kind: &'static str,
    text: &'static str,
}

const HTML: &str = "text/html; charset=utf-8";

const ASSETS: &[Asset] = &[
    Asset { path: "/", kind: HTML, text: include_str!("page/index.html") },
    Asset { path: "/style.css", kind: "text/css; charset=utf-8", text: include_str!("page/style.css") },
    Asset { path: "/page.js", kind: "text/javascript; charset=utf-8", text: include_str!("page/page.js") },
    Asset { path: "/draw.js", kind: "text/javascript; charset=utf-8", text: include_str!("page/draw.js") },
    Asset { path: "/icon.svg", kind: "image/svg+xml", text: include_str!("page/icon.svg") },
];

const LOGIN: &str = include_str!("page/login.html");

/// One tag for all of them: they belong together.
static TAG: LazyLock<String> = LazyLock::new(|| {
    let hash = ASSETS.iter().fold(Sha256::new(), |hash, asset| hash.chain_update(asset.text)).finalize();
    let short: String = hash.iter().take(8).map(|byte| format!("{byte:02x}")).collect();
    format!("\"{short}\"")
});

/// The file at a path; `None` where there is none.
pub(super) fn find(path: &str, headers: &HeaderMap) -> Option<Answer> {
    let asset = ASSETS.iter().find(|asset| asset.path == path)?;
    let had = headers.get(header::IF_NONE_MATCH).and_then(|tag| tag.to_str().ok());
    let mut answer = if had == Some(&TAG) {
        answer::empty(StatusCode::NOT_MODIFIED)
    } else {
        answer::bytes(StatusCode::OK, asset.kind, asset.text)
    };
    answer::set(&mut answer, header::ETAG, &TAG);
    answer::set(&mut answer, header::CACHE_CONTROL, "no-cache");
    Some(answer)
}

/// Whether everybody may have it, also who is not logged in: what the login form needs.
pub(super) fn is_open(path: &str) -> bool {
    matches!(path, "/style.css" | "/icon.svg")
}

/// The login form. `again`: the token was wrong.
pub(super) fn login(status: StatusCode, again: bool) -> Answer {
    let problem = if again {
        "<p class=\"problem\" id=\"problem\" role=\"alert\">That is not the token.</p>"
    } else {
        ""
    };
    let described = if again { " aria-invalid=\"true\" aria-describedby=\"problem\"" } else { "" };
    let text = LOGIN.replace("<!--problem-->", problem).replace(" data-problem", described);
    answer::bytes(status, HTML, text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_comes_from_elsewhere_and_nothing_is_inline() {
        for (path, text) in ASSETS.iter().map(|asset| (asset.path, asset.text)).chain([("/login", LOGIN)]) {
            for banned in
                ["http://", "https://", "//cdn", "<style", " style=", " onclick=", "javascript:", "@import"]
            {
                let known = ["http://www.w3.org/2000/svg"];
                let text = known.iter().fold(text.to_owned(), |text, known| text.replace(known, ""));
                assert!(!text.contains(banned), "{path} has {banned}");
            }
            for script in text.split("<script").skip(1) {
                assert!(
                    script.trim_start().starts_with("src=\"/")
                        || script.starts_with(" type=\"module\" src=\"/"),
                    "{path}"
                );
            }
            for banned in ["innerHTML", "outerHTML", "insertAdjacentHTML", "document.write", "eval("] {
                assert!(!text.contains(banned), "{path}: {banned} would run what a name or an error holds");
            }
        }
    }

    #[test]
    fn a_browser_that_has_a_file_does_not_get_it_again() {
        let first = find("/page.js", &HeaderMap::new()).unwrap();
        let mut headers = HeaderMap::new();
        headers.insert(header::IF_NONE_MATCH, first.headers()[header::ETAG].clone());
        assert_eq!(find("/page.js", &headers).unwrap().status(), StatusCode::NOT_MODIFIED);
        assert!(find("/../page.js", &headers).is_none());
    }
}
