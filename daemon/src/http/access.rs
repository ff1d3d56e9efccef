//! Who may ask: the token, and on loopback without one the `Host` header.
//!
//! In: the token's file; a request's headers. Out: yes, or why not. Without a token only this machine can connect, and a
//! web page that a browser on it shows could too, under a name of its own that it lets point here (DNS rebinding): so a
//! request must be for an address or `localhost`. The token is compared in constant time, and never logged.

use std::path::Path;

use hyper::HeaderMap;
use hyper::header;
use sha2::{Digest, Sha256};
use subtle::ConstantTimeEq;

/// Characters of a token at least.
const SHORTEST: usize = 16;
/// Bytes of the token's file at most.
const LONGEST: u64 = 4096;
/// How long a browser stays logged in, seconds.
const STAY: u64 = 30 * 24 * 3600;

/// Who may ask.
#[derive(Debug)]
pub(super) struct Access {
    token: Option<Token>,
    /// Name of the cookie: cookies do not tell ports apart.
    cookie: String,
}

#[derive(Debug)]
struct Token {
    /// The token's hash, so that tokens of any length take the same time.
    hash: [u8; 32],
    /// What a browser that has logged in holds; it ends with the token.
    cookie: String,
}

/// Why a request is refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Refused {
    /// It has no token.
    NoToken,
    /// It has a wrong one.
    WrongToken,
    /// It is for another host.
    Host,
    /// It names several (RFC 9112, 3.2).
    Hosts,
}

impl Access {
    /// Reads the token, where there is to be one.
    ///
    /// # Errors
    /// Where the file cannot be read or holds no token; the text names the key.
    pub(super) fn read(file: Option<&Path>, port: u16) -> Result<Self, String> {
        let token = match file {
            None => None,
            Some(path) => {
                let wrong =
                    |why: &dyn std::fmt::Display| format!("http.token_file = {}: {why}", path.display());
                let size = std::fs::metadata(path).map_err(|error| wrong(&error))?.len();
                if size > LONGEST {
                    return Err(wrong(&format!("is larger than {LONGEST} bytes")));
                }
                let text = std::fs::read_to_string(path).map_err(|error| wrong(&error))?;
                let text = text.trim();
                if text.chars().count() < SHORTEST {
                    return Err(wrong(&format!("holds no token of at least {SHORTEST} characters")));
                }
                Some(Token::new(text))
            }
        };
        Ok(Self { token, cookie: format!("watchpost_{port}") })
    }

    /// Whether a token is demanded.
    pub(super) fn has_token(&self) -> bool {
        self.token.is_some()
    }

    /// Whether a request may be answered. `host`: of the request's address, where it is a whole one.
    ///
    /// # Errors
    /// Why not.
    pub(super) fn check(&self, host: Option<&str>, headers: &HeaderMap) -> Result<(), Refused> {
        if headers.get_all(header::HOST).iter().nth(1).is_some() {
            return Err(Refused::Hosts);
        }
        let Some(token) = &self.token else {
            let header = headers.get(header::HOST).and_then(|host| host.to_str().ok());
            return match host.or(header) {
                Some(host) if is_this_machine(host) => Ok(()),
                _ => Err(Refused::Host),
            };
        };
        if let Some(given) = headers.get(header::AUTHORIZATION) {
            let given = given.to_str().ok().and_then(|given| given.split_once(' '));
            return match given {
                Some((scheme, given)) if scheme.eq_ignore_ascii_case("bearer") && token.is(given.trim()) => {
                    Ok(())
                }
                _ => Err(Refused::WrongToken),
            };
        }
        let cookies = headers.get_all(header::COOKIE).iter().filter_map(|value| value.to_str().ok());
        let mut ours = cookies
            .flat_map(|line| line.split(';'))
            .filter_map(|pair| pair.trim().split_once('='))
            .filter(|(name, _)| *name == self.cookie)
            .peekable();
        if ours.peek().is_none() {
            return Err(Refused::NoToken);
        }
        let right = ours.any(|(_, value)| bool::from(value.as_bytes().ct_eq(token.cookie.as_bytes())));
        // One that an earlier token left in the browser is no attack.
        if right { Ok(()) } else { Err(Refused::NoToken) }
    }

    /// The cookie for a browser that gave this token; `None` where it is wrong.
    pub(super) fn log_in(&self, given: &str) -> Option<String> {
        let token = self.token.as_ref().filter(|token| token.is(given.trim()))?;
        Some(format!("{}={}; Path=/; HttpOnly; SameSite=Strict; Max-Age={STAY}", self.cookie, token.cookie))
    }

    /// The cookie that takes the other one away.
    pub(super) fn log_out(&self) -> String {
        format!("{}=; Path=/; HttpOnly; SameSite=Strict; Max-Age=0", self.cookie)
    }
}

impl Token {
    fn new(text: &str) -> Self {
        let cookie = Sha256::new().chain_update("watchpost page\0").chain_update(text).finalize();
        let cookie = cookie.iter().map(|byte| format!("{byte:02x}")).collect();
        Self { hash: Sha256::digest(text).into(), cookie }
    }

    fn is(&self, given: &str) -> bool {
        let given: [u8; 32] = Sha256::digest(given).into();
        given.ct_eq(&self.hash).into()
    }
}

/// Whether a `Host` is an address or `localhost`, with or without a port: nothing that a name server answers for.
fn is_this_machine(host: &str) -> bool {
    let name = match host.strip_prefix('[') {
        Some(rest) => rest.split(']').next().unwrap_or_default(),
        None => host.rsplit_once(':').map_or(host, |(name, _)| name),
    };
    name.eq_ignore_ascii_case("localhost") || name.parse::<std::net::IpAddr>().is_ok()
}

/// Whether a form was sent by our own page: `Origin` names the host that was asked, or there is none, as with programs.
pub(super) fn same_origin(headers: &HeaderMap) -> bool {
    let text = |name| headers.get(name).and_then(|value: &header::HeaderValue| value.to_str().ok());
    match (text(header::ORIGIN), text(header::HOST)) {
        (None, _) => true,
        // A page that says nothing of its address to others (`Referrer-Policy`) has `null` as its origin.
        (Some("null"), _) => text(header::HeaderName::from_static("sec-fetch-site")) == Some("same-origin"),
        (Some(origin), Some(host)) => origin.split_once("://").is_some_and(|(_, origin)| origin == host),
        (Some(_), None) => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(pairs: &[(&'static str, &str)]) -> HeaderMap {
        let mut headers = HeaderMap::new();
        for (name, value) in pairs {
            headers.append(*name, value.parse().unwrap());
        }
        headers
    }

    fn with_token() -> Access {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), "0123456789abcdef\n").unwrap();
        Access::read(Some(file.path()), 8590).unwrap()
    }

    #[test]
    fn a_token_is_demanded_and_compared() {
        let access = with_token();
        let check = |pairs: &[(&'static str, &str)]| access.check(None, &headers(pairs));
        assert_eq!(check(&[("host", "localhost")]), Err(Refused::NoToken));
        assert_eq!(check(&[("authorization", "Bearer 0123456789abcdef")]), Ok(()));
        assert_eq!(check(&[("authorization", "bearer  0123456789abcdef")]), Ok(()));
        for wrong in ["Bearer 0123456789abcde", "Bearer ", "Basic 0123456789abcdef", "0123456789abcdef"] {
            assert_eq!(check(&[("authorization", wrong)]), Err(Refused::WrongToken), "{wrong}");
        }
        assert!(access.log_in("0123456789abcdeF").is_none());
        let cookie = access.log_in("0123456789abcdef").unwrap();
        assert!(
            cookie.contains("HttpOnly") && cookie.contains("SameSite=Strict") && !cookie.contains("cdef;")
        );
        let pair = cookie.split(';').next().unwrap();
        assert_eq!(check(&[("cookie", &format!("other=1; {pair}"))]), Ok(()));
        assert_eq!(check(&[("cookie", "a=b"), ("cookie", pair)]), Ok(()));
        assert_eq!(check(&[("cookie", "watchpost_8590=00")]), Err(Refused::NoToken));
        assert_eq!(check(&[("cookie", &pair.replace("8590", "8591"))]), Err(Refused::NoToken));
    }

    #[test]
    fn without_a_token_only_this_machine_is_asked_for() {
        let access = Access::read(None, 8590).unwrap();
        for host in
            ["localhost", "localhost:9000", "127.0.0.1:8590", "[::1]:8590", "LOCALHOST", "192.168.1.4"]
        {
            assert_eq!(access.check(None, &headers(&[("host", host)])), Ok(()), "{host}");
        }
        for host in
            ["evil.example", "evil.example:8590", "localhost.evil.example", "127.0.0.1.evil.example", ""]
        {
            assert_eq!(access.check(None, &headers(&[("host", host)])), Err(Refused::Host), "{host}");
        }
        assert_eq!(access.check(None, &headers(&[])), Err(Refused::Host));
        assert_eq!(
            access.check(Some("evil.example"), &headers(&[("host", "localhost")])),
            Err(Refused::Host)
        );
        assert!(access.log_in("").is_none());
    }

    #[test]
    fn a_file_without_a_token_is_named() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("token");
        let error = Access::read(Some(&path), 1).unwrap_err();
        assert!(error.contains("http.token_file") && error.contains("No such file"), "{error}");
        std::fs::write(&path, "short\n").unwrap();
        let error = Access::read(Some(&path), 1).unwrap_err();
        assert!(error.contains("16 characters") && !error.contains("short"), "{error}");
        std::fs::write(&path, vec![b'x'; 5000]).unwrap();
        assert!(Access::read(Some(&path), 1).unwrap_err().contains("larger"));
    }

    #[test]
    fn forms_of_other_pages_are_told_apart() {
        let same = |pairs: &[(&'static str, &str)]| same_origin(&headers(pairs));
        assert!(same(&[("host", "box:1"), ("origin", "http://box:1")]));
        assert!(same(&[("host", "box:1")]));
        assert!(same(&[("host", "box:1"), ("origin", "null"), ("sec-fetch-site", "same-origin")]));
        assert!(!same(&[("host", "box:1"), ("origin", "null")]));
        assert!(!same(&[("host", "box:1"), ("origin", "http://evil.example")]));
        assert!(!same(&[("host", "box:1"), ("origin", "http://box:2")]));
    }
}
