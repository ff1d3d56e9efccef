//! An answer: its body, and the headers that every answer has.
//!
//! In: bytes, JSON, a file. Out: hyper's response. A file is read piece by piece as the client takes it; one that ends
//! early breaks the connection, so that nobody takes a part for the whole.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Poll};

use hyper::body::{Bytes, Frame, SizeHint};
use hyper::header::{self, HeaderName, HeaderValue};
use hyper::{Response, StatusCode};
use serde_json::{Value, json};
use tokio::fs::File;
use tokio::io::{AsyncRead, ReadBuf};

/// Bytes of a file in one piece.
const PIECE: u64 = 64 << 10;

/// Held while a request is answered, to its last byte.
#[derive(Debug)]
pub(super) struct Busy(Arc<AtomicUsize>);

impl Busy {
    /// Counts one up in `requests`, until it is dropped.
    pub(super) fn new(requests: &Arc<AtomicUsize>) -> Self {
        requests.fetch_add(1, Ordering::Relaxed);
        Self(Arc::clone(requests))
    }
}

impl Drop for Busy {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

/// The body of an answer.
#[derive(Debug)]
pub(super) struct Body {
    content: Content,
    /// Set last, when the answer leaves.
    pub(super) busy: Option<Busy>,
}

#[derive(Debug)]
enum Content {
    Bytes(Bytes),
    File { file: File, left: u64 },
}

impl Body {
    fn bytes(bytes: impl Into<Bytes>) -> Self {
        Self { content: Content::Bytes(bytes.into()), busy: None }
    }

    /// `left` bytes of a file from where it stands.
    pub(super) fn file(file: File, left: u64) -> Self {
        Self { content: Content::File { file, left }, busy: None }
    }
}

impl hyper::body::Body for Body {
    type Data = Bytes;
    type Error = io::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<io::Result<Frame<Bytes>>>> {
        match &mut self.content {
            Content::Bytes(bytes) if bytes.is_empty() => Poll::Ready(None),
            Content::Bytes(bytes) => Poll::Ready(Some(Ok(Frame::data(std::mem::take(bytes))))),
            Content::File { left: 0, .. } => Poll::Ready(None),
            Content::File { file, left } => {
                let mut piece = vec![0; (*left).min(PIECE) as usize];
                let mut buffer = ReadBuf::new(&mut piece);
                if let Err(error) = std::task::ready!(Pin::new(file).poll_read(context, &mut buffer)) {
                    return Poll::Ready(Some(Err(error)));
                }
                let read = buffer.filled().len();
                if read == 0 {
                    return Poll::Ready(Some(Err(io::ErrorKind::UnexpectedEof.into())));
                }
                *left -= read as u64;
                piece.truncate(read);
                Poll::Ready(Some(Ok(Frame::data(piece.into()))))
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        self.size_hint().exact() == Some(0)
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(match &self.content {
            Content::Bytes(bytes) => bytes.len() as u64,
            Content::File { left, .. } => *left,
        })
    }
}

/// An answer.
pub(super) type Answer = Response<Body>;

/// Headers of every answer. No script, style or picture of another origin, and none within the page's text; nobody may
/// frame the page, or learn its address.
const HEADERS: [(HeaderName, &str); 6] = [
    (
        header::CONTENT_SECURITY_POLICY,
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' blob:; media-src 'self'; connect-src \
         'self'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'",
    ),
    (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
    (header::X_FRAME_OPTIONS, "DENY"),
    (header::REFERRER_POLICY, "no-referrer"),
    (HeaderName::from_static("cross-origin-resource-policy"), "same-origin"),
    // What says otherwise has its own.
    (header::CACHE_CONTROL, "no-store"),
];

/// An answer with these bytes.
pub(super) fn bytes(status: StatusCode, kind: &'static str, bytes: impl Into<Bytes>) -> Answer {
    with(status, kind, Body::bytes(bytes))
}

/// An answer with this body.
pub(super) fn with(status: StatusCode, kind: &'static str, body: Body) -> Answer {
    let mut answer = Response::new(body);
    *answer.status_mut() = status;
    let headers = answer.headers_mut();
    for (name, value) in HEADERS {
        headers.insert(name, HeaderValue::from_static(value));
    }
    if !kind.is_empty() {
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(kind));
    }
    answer
}

/// An answer without a body.
pub(super) fn empty(status: StatusCode) -> Answer {
    with(status, "", Body::bytes(Bytes::new()))
}

/// JSON.
pub(super) fn value(status: StatusCode, value: &Value) -> Answer {
    bytes(status, "application/json", value.to_string() + "\n")
}

/// An error, for programs and people.
pub(super) fn error(status: StatusCode, why: impl Into<String>) -> Answer {
    value(status, &json!({ "error": why.into() }))
}

/// Sends the client elsewhere, to be asked for with GET.
pub(super) fn redirect(to: &'static str) -> Answer {
    let mut answer = empty(StatusCode::SEE_OTHER);
    answer.headers_mut().insert(header::LOCATION, HeaderValue::from_static(to));
    answer
}

/// Sets a header; a value that cannot be one is left out.
pub(super) fn set(answer: &mut Answer, name: HeaderName, value: &str) {
    if let Ok(value) = HeaderValue::from_str(value) {
        answer.headers_mut().insert(name, value);
    }
}
