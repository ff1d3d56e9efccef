//! Addresses of sources: a path, `file:`, `rtsp://`, `rtsps://`.
//!
//! In: the text of the configuration. Out: a [`Location`] whose `Display` and `Debug` never show a user name,
//! a password or a secret of the query; [`Location::scrub`] takes them out of texts that others wrote.

use std::fmt;
use std::path::PathBuf;

use super::IngestError;
use crate::telemetry::secrets;

/// Where a source is. Its `Display` and `Debug` are redacted.
#[derive(Clone, PartialEq, Eq)]
pub enum Location {
    /// A file.
    File(PathBuf),
    /// An RTSP address.
    Rtsp(RtspAddress),
}

/// An RTSP address, its credentials kept apart.
#[derive(Clone, PartialEq, Eq)]
pub struct RtspAddress {
    /// The address without user name and password.
    pub(super) url: String,
    /// User name, decoded.
    pub(super) user: Option<String>,
    /// Password, decoded.
    pub(super) password: Option<String>,
    /// Texts that must never be shown, the longest first.
    secrets: Vec<String>,
    shown: String,
}

/// Query (and, with some cameras, path) keys whose values are credentials.
const SECRET_KEYS: [&str; 11] =
    ["user", "usr", "username", "password", "passwd", "pass", "pwd", "psw", "token", "auth", "key"];

impl Location {
    /// Reads an address.
    ///
    /// # Errors
    /// [`IngestError::Address`] where it is of no kind that can be read.
    pub fn parse(text: &str) -> Result<Self, IngestError> {
        let trimmed = text.trim();
        let wrong = |shown: &str, reason: &str| {
            Err(IngestError::Address { source_: shown.to_string(), reason: reason.to_string() })
        };
        if trimmed.is_empty() {
            return wrong("", "it is empty");
        }
        let Some((scheme, rest)) = split_scheme(trimmed) else {
            return Ok(Self::File(PathBuf::from(trimmed)));
        };
        match scheme.to_ascii_lowercase().as_str() {
            "file" => {
                let path = match rest.strip_prefix("//") {
                    Some(rest) => match rest.find('/') {
                        Some(0) => rest,
                        Some(slash) if rest[..slash].eq_ignore_ascii_case("localhost") => &rest[slash..],
                        _ => return wrong(trimmed, "file://HOST/ names another machine; write file:///PATH"),
                    },
                    None => rest,
                };
                match decode_percent(path) {
                    Some(path) if !path.is_empty() => Ok(Self::File(PathBuf::from(path))),
                    _ => wrong(trimmed, "its path is empty or its %XX escapes are wrong"),
                }
            }
            scheme @ ("rtsp" | "rtsps") => RtspAddress::parse(scheme, rest).map(Self::Rtsp),
            scheme => {
                let shown = format!("{scheme}:…");
                wrong(&shown, &format!("its scheme \"{scheme}\" is unknown here"))
            }
        }
    }

    /// Whether frames come at the pace of the other side.
    #[must_use]
    pub fn is_live(&self) -> bool {
        matches!(self, Self::Rtsp(_))
    }

    /// Name or address of the host that frames come from, and its port.
    #[must_use]
    pub fn host(&self) -> Option<(&str, u16)> {
        let Self::Rtsp(address) = self else { return None };
        let (scheme, rest) = address.url.split_once("://")?;
        let (name, port) = split_port(rest.split(['/', '?', '#']).next()?);
        let usual = if scheme == "rtsps" { 322 } else { 554 };
        Some((name, port.strip_prefix(':').and_then(|port| port.parse().ok()).unwrap_or(usual)))
    }

    /// Takes credentials out of a text that somebody else wrote.
    #[must_use]
    pub fn scrub(&self, text: &str) -> String {
        let Self::Rtsp(address) = self else { return text.to_string() };
        address.secrets.iter().fold(text.to_string(), |text, secret| text.replace(secret.as_str(), "***"))
    }
}

impl RtspAddress {
    fn parse(scheme: &str, rest: &str) -> Result<Self, IngestError> {
        let wrong = |reason: &str| {
            Err(IngestError::Address { source_: format!("{scheme}://…"), reason: reason.to_string() })
        };
        let Some(rest) = rest.strip_prefix("//") else {
            return wrong("\"//\" is missing after the scheme");
        };
        let (authority, tail) = rest.split_at(rest.find(['/', '?', '#']).unwrap_or(rest.len()));
        let (userinfo, host) = match authority.rsplit_once('@') {
            Some((userinfo, host)) => (Some(userinfo), host),
            None => (None, authority),
        };
        // A slash in a password that was not escaped: what is taken for the path then holds the "@".
        if userinfo.is_none() && host.contains(':') && tail.split('?').next().is_some_and(|p| p.contains('@'))
        {
            return wrong(
                "it has an \"@\" in its path; write a / in a password as %2F, an @ in a path as %40",
            );
        }
        if let Err(reason) = check_host(host) {
            return wrong(&reason);
        }
        let mut secrets = Vec::new();
        let (user, password) = match userinfo {
            None => (None, None),
            Some(info) => {
                let (user, password) = match info.split_once(':') {
                    Some((user, password)) => (user, Some(password)),
                    None => (info, None),
                };
                secrets.extend([Some(info), password].into_iter().flatten().map(str::to_string));
                let decoded = (decode_percent(user), password.map(decode_percent));
                let (Some(user), password @ (None | Some(Some(_)))) = decoded else {
                    return wrong("a %XX escape in its user name or password is wrong");
                };
                let password = password.flatten();
                secrets.extend([Some(user.clone()), password.clone()].into_iter().flatten());
                (Some(user), password)
            }
        };
        let (shown_tail, values) = redact_keys(tail);
        // Not the user's name, which is a word like any other: "admin".
        let guards = secrets.iter().skip(1).filter(|_| password.is_some()).chain(&values);
        guards
            .filter(|secret| user.as_deref() != Some(secret.as_str()))
            .for_each(|secret| secrets::add(secret));
        secrets.extend(values);
        // A one-letter secret would blot out every text; it guards nothing either.
        secrets.retain(|secret| secret.chars().count() > 2);
        secrets.sort_by_key(|secret| std::cmp::Reverse(secret.len()));
        secrets.dedup();
        let credentials = if userinfo.is_some() { "***@" } else { "" };
        Ok(Self {
            url: format!("{scheme}://{host}{tail}"),
            user,
            password,
            secrets,
            shown: format!("{scheme}://{credentials}{host}{shown_tail}"),
        })
    }
}

/// A host's name or address without brackets, and its port with the colon before it.
fn split_port(host: &str) -> (&str, &str) {
    match host.strip_prefix('[') {
        Some(v6) => v6.split_once(']').unwrap_or(("", "")),
        None => host.split_at(host.find(':').unwrap_or(host.len())),
    }
}

fn check_host(host: &str) -> Result<(), String> {
    let (name, port) = split_port(host);
    if name.is_empty() || name.contains(char::is_whitespace) {
        return Err("it names no host".into());
    }
    match port.strip_prefix(':') {
        None if port.is_empty() => Ok(()),
        Some(number) if number.parse::<u16>().is_ok_and(|n| n > 0) => Ok(()),
        _ => Err("its port is no number from 1 to 65535".into()),
    }
}

/// The scheme and what follows its colon. A path with a colon in it is no URI unless it looks like one.
fn split_scheme(text: &str) -> Option<(&str, &str)> {
    let (scheme, rest) = text.split_once(':')?;
    let looks = scheme.len() > 1
        && scheme.starts_with(|c: char| c.is_ascii_alphabetic())
        && scheme.chars().all(|c| c.is_ascii_alphanumeric() || "+-.".contains(c));
    let known = ["file", "rtsp", "rtsps"].iter().any(|known| scheme.eq_ignore_ascii_case(known));
    (looks && (known || rest.starts_with("//"))).then_some((scheme, rest))
}

fn decode_percent(text: &str) -> Option<String> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((&byte, after)) = rest.split_first() {
        if byte == b'%' {
            let digits = after.get(..2)?;
            bytes.push(u8::from_str_radix(std::str::from_utf8(digits).ok()?, 16).ok()?);
            rest = &after[2..];
        } else {
            bytes.push(byte);
            rest = after;
        }
    }
    String::from_utf8(bytes).ok()
}

/// Path and query with the values of secret keys taken out, and those values.
fn redact_keys(tail: &str) -> (String, Vec<String>) {
    let mut shown = String::new();
    let mut values = Vec::new();
    for part in tail.split_inclusive(['/', '?', '&', ';', '#']) {
        let (body, end) = match part.char_indices().last() {
            Some((at, '/' | '?' | '&' | ';' | '#')) => part.split_at(at),
            _ => (part, ""),
        };
        match body.split_once('=') {
            Some((key, value)) if is_secret_key(key) => {
                shown.push_str(key);
                shown.push_str("=***");
                values.push(value.to_string());
                values.extend(decode_percent(value));
            }
            _ => shown.push_str(body),
        }
        shown.push_str(end);
    }
    (shown, values)
}

fn is_secret_key(key: &str) -> bool {
    let key = key.to_ascii_lowercase();
    SECRET_KEYS.iter().any(|secret| key == *secret || key.ends_with(&format!("_{secret}")))
}

impl fmt::Display for Location {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::File(path) => write!(f, "{}", path.display()),
            Self::Rtsp(address) => f.write_str(&address.shown),
        }
    }
}

impl fmt::Debug for Location {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Location({self})")
    }
}

impl fmt::Debug for RtspAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "RtspAddress({})", self.shown)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rtsp(text: &str) -> RtspAddress {
        match Location::parse(text).unwrap() {
            Location::Rtsp(address) => address,
            Location::File(path) => panic!("{text} was taken for the file {}", path.display()),
        }
    }

    #[test]
    fn paths_and_file_uris() {
        for (text, path) in [
            ("/a/b.mp4", "/a/b.mp4"),
            ("clips/a:b.mp4", "clips/a:b.mp4"),
            ("file:///a/b%20c.mp4", "/a/b c.mp4"),
            ("file:/a.mkv", "/a.mkv"),
            ("file://localhost/a.ts", "/a.ts"),
            ("file:a.ts", "a.ts"),
        ] {
            assert_eq!(Location::parse(text).unwrap(), Location::File(path.into()), "{text}");
        }
    }

    #[test]
    fn credentials_are_kept_and_never_shown() {
        let address = rtsp("rtsp://admin:p%40ss:word@cam-3:8554/main?channel=1&pwd=hunter22");
        assert_eq!(address.url, "rtsp://cam-3:8554/main?channel=1&pwd=hunter22");
        assert_eq!(address.user.as_deref(), Some("admin"));
        assert_eq!(address.password.as_deref(), Some("p@ss:word"));
        let location = Location::Rtsp(address);
        assert_eq!(location.to_string(), "rtsp://***@cam-3:8554/main?channel=1&pwd=***");
        let scrubbed = location.scrub("401 for admin with p@ss:word (p%40ss:word) at ?pwd=hunter22");
        for secret in ["admin", "p@ss", "p%40ss", "hunter22"] {
            assert!(!scrubbed.contains(secret), "{scrubbed}");
            assert!(!format!("{location:?} {location}").contains(secret));
        }
    }

    #[test]
    fn credentials_in_the_path_as_some_cameras_have_them() {
        let location = Location::parse("rtsp://10.0.0.9/user=joe&password=s3cret&channel=1").unwrap();
        assert_eq!(location.to_string(), "rtsp://10.0.0.9/user=***&password=***&channel=1");
    }

    #[test]
    fn wrong_addresses_say_what_works_and_leak_nothing() {
        for text in [
            "",
            "gopher://joe:s3cret@x/y",
            "rtsp:joe:s3cret@x",
            "rtsp://joe:s3cret@",
            "rtsp://joe:s3cret@host:99999/",
            "rtsp://joe:s3cret%zz@host/",
            "rtsp://joe:s3c/ret@host/",
            "file://elsewhere/x.mp4",
        ] {
            let error = Location::parse(text).unwrap_err().to_string();
            assert!(error.contains("what works") && error.contains("rtsp://"), "{error}");
            assert!(!error.contains("s3c"), "{error}");
        }
    }

    #[test]
    fn ipv6_hosts() {
        assert_eq!(rtsp("rtsp://[fe80::1]:554/x").url, "rtsp://[fe80::1]:554/x");
    }

    #[test]
    fn the_host_is_known_without_the_rest() {
        let host =
            |text: &str| Location::parse(text).unwrap().host().map(|(name, port)| (name.to_owned(), port));
        assert_eq!(host("rtsp://u:secret@cam-3/main?x=1"), Some(("cam-3".to_owned(), 554)));
        assert_eq!(host("rtsps://cam-3?x=1"), Some(("cam-3".to_owned(), 322)));
        assert_eq!(host("RTSP://[fe80::1]:8554/x"), Some(("fe80::1".to_owned(), 8554)));
        assert_eq!(host("/srv/clip.mp4"), None);
    }
}
