//! Logging in and out with a browser: a form with the token, a cookie in return.
//!
//! In: the form. Out: redirects with a cookie, or the form again with what was wrong. Bodies are short and must come soon.

use std::time::Duration;

use http_body_util::BodyExt;
use hyper::body::Incoming;
use hyper::{Request, StatusCode, header};

use super::access::{Access, same_origin};
use super::answer::{self, Answer};
use super::assets;
use crate::telemetry::Registry;

/// Bytes of a form at most.
const FORM: usize = 8 << 10;
/// How long a form may take to arrive.
const SOON: Duration = Duration::from_secs(10);

/// `POST /login`.
pub(super) async fn log_in(access: &Access, registry: &Registry, request: Request<Incoming>) -> Answer {
    if !same_origin(request.headers()) {
        return answer::error(StatusCode::FORBIDDEN, "this form was sent by another page");
    }
    let form = match tokio::time::timeout(SOON, read(request.into_body())).await {
        Ok(Ok(form)) => form,
        Ok(Err(status)) => return answer::error(status, "the form cannot be read"),
        Err(_) => return answer::error(StatusCode::REQUEST_TIMEOUT, "the form did not arrive in time"),
    };
    let token = field(&form, "token").unwrap_or_default();
    match access.log_in(&token) {
        Some(cookie) => {
            let mut answer = answer::redirect("/");
            answer::set(&mut answer, header::SET_COOKIE, &cookie);
            answer
        }
        None if access.has_token() => {
            registry.counter("http_logins_refused_total", &[]).inc();
            assets::login(StatusCode::UNAUTHORIZED, true)
        }
        None => answer::redirect("/"),
    }
}

/// `POST /logout`.
pub(super) fn log_out(access: &Access, request: &Request<Incoming>) -> Answer {
    if !same_origin(request.headers()) {
        return answer::error(StatusCode::FORBIDDEN, "this form was sent by another page");
    }
    let mut answer = answer::redirect("/login");
    answer::set(&mut answer, header::SET_COOKIE, &access.log_out());
    answer
}

async fn read(mut body: Incoming) -> Result<Vec<u8>, StatusCode> {
    let mut form = Vec::new();
    while let Some(frame) = body.frame().await {
        let frame = frame.map_err(|_| StatusCode::BAD_REQUEST)?;
        if let Some(data) = frame.data_ref() {
            if form.len() + data.len() > FORM {
                return Err(StatusCode::PAYLOAD_TOO_LARGE);
            }
            form.extend_from_slice(data);
        }
    }
    Ok(form)
}

/// A field of a form, `application/x-www-form-urlencoded`.
fn field(form: &[u8], name: &str) -> Option<String> {
    let form = std::str::from_utf8(form).ok()?;
    let (_, value) = form.split('&').filter_map(|pair| pair.split_once('=')).find(|(key, _)| *key == name)?;
    let mut bytes = Vec::with_capacity(value.len());
    let mut rest = value.bytes();
    while let Some(byte) = rest.next() {
        bytes.push(match byte {
            b'+' => b' ',
            b'%' => {
                let mut digit = || char::from(rest.next()?).to_digit(16);
                let (high, low) = (digit()?, digit()?);
                (high * 16 + low) as u8
            }
            byte => byte,
        });
    }
    String::from_utf8(bytes).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn forms_are_decoded() {
        assert_eq!(field(b"a=1&token=x%2By+z%C3%A9", "token").as_deref(), Some("x+y z\u{e9}"));
        assert_eq!(field(b"token=", "token").as_deref(), Some(""));
        for wrong in [&b"token"[..], b"token=%4", b"token=%zz", b"token=%ff", b"other=1", b"\xff=1"] {
            assert_eq!(field(wrong, "token"), None);
        }
    }
}
