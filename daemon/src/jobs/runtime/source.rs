//! Where archives come from: a web server, a package index, or a folder.
//!
//! In: the address that the administrator gave. Out: an archive's bytes from a given one on. Every request has limits on
//! how long nothing may come. What the far side answers instead becomes an error that says what to do.

use std::collections::HashMap;
use std::fs::File;
use std::io::{Read, Seek, SeekFrom};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, bail};
use ureq::tls::{Certificate, RootCerts, TlsConfig, TlsProvider};
use ureq::{Agent, Body, http};

use super::index;
use super::manifest::Archive;
use super::progress::bytes;

/// The longest page of a project that is read.
const LONGEST_PAGE: u64 = 64 << 20;

/// What keeps an archive from coming.
#[derive(Debug, thiserror::Error)]
pub enum SourceError {
    /// It is nowhere.
    #[error(
        "{file}: not found; looked at {}. Is the address that of a package index, or of a folder with the archives?",
        tried.join(" and ")
    )]
    NotFound {
        /// The archive.
        file: String,
        /// Where.
        tried: Vec<String>,
    },
    /// The server says no.
    #[error("{file}: {url} answers {status}; {}", match status {
        401 | 403 | 407 => "this box may not read it: ask whoever runs the server or the proxy, or get the archives by \
                            other means and name their folder: --from file:///FOLDER",
        429 | 500.. => "run the same command again later, it continues where it is",
        _ => "is the address right?",
    })]
    Refused {
        /// The archive.
        file: String,
        /// Where.
        url: String,
        /// HTTP status.
        status: u16,
    },
    /// There is no connection, or it does not answer.
    #[error(
        "{file}: {url}: {why}; check the address, the network, and HTTPS_PROXY, HTTP_PROXY and NO_PROXY, then run the \
         same command again"
    )]
    Unreachable {
        /// The archive.
        file: String,
        /// Where.
        url: String,
        /// Why.
        why: String,
    },
    /// It is another file.
    #[error(
        "{file}: {url} has {found}; {} are pinned. It is another file than the one that was checked: use another \
         server, or a manifest that pins what this one has (--manifest)",
        bytes(*expected)
    )]
    OtherFile {
        /// The archive.
        file: String,
        /// Where.
        url: String,
        /// What there is.
        found: String,
        /// Bytes that were expected.
        expected: u64,
    },
    /// A file in a folder cannot be read.
    #[error("{file}: {} cannot be read: {why}", path.display())]
    File {
        /// The archive.
        file: String,
        /// Where.
        path: PathBuf,
        /// Why.
        why: std::io::Error,
    },
}

/// Where archives come from.
#[derive(Debug)]
pub struct Source {
    base: Base,
    agent: Agent,
    /// Addresses of archives that were found on an index.
    found: HashMap<String, String>,
}

#[derive(Debug)]
enum Base {
    Web(String),
    Folder(PathBuf),
}

/// An archive's bytes, from `at` on.
pub struct Opened {
    /// The first byte that comes; 0 where the far side cannot begin in the middle.
    pub at: u64,
    /// The bytes.
    pub bytes: Box<dyn Read>,
}

impl Source {
    /// A source at an address; nothing is asked of it yet. `patience`: how long nothing may come.
    ///
    /// # Errors
    /// Where it is no address of a known kind, or the system's certificates cannot be read.
    pub fn new(from: &str, patience: Duration) -> anyhow::Result<Self> {
        let base = match from.split_once("://") {
            Some(("http" | "https", rest)) if !rest.is_empty() && !rest.starts_with('/') => {
                if rest.split('/').next().is_some_and(|host| host.contains('@')) {
                    bail!(
                        "credentials do not belong in an address; get the archives by other means and name their \
                         folder: --from file:///FOLDER"
                    );
                }
                Base::Web(from.trim_end_matches('/').to_owned())
            }
            Some(("file", path)) if path.starts_with('/') => Base::Folder(index::decode(path).into()),
            _ => bail!("--from {from}: expected https://HOST/…, http://HOST/… or file:///FOLDER"),
        };
        let roots = match &base {
            Base::Web(url) if url.starts_with("https") => system_roots()?,
            _ => RootCerts::Specific(Arc::default()),
        };
        let tls = TlsConfig::builder()
            .provider(TlsProvider::Rustls)
            .unversioned_rustls_crypto_provider(Arc::new(rustls::crypto::ring::default_provider()))
            .root_certs(roots)
            .build();
        let agent = Agent::config_builder()
            .tls_config(tls)
            .user_agent(concat!("watchpost/", env!("CARGO_PKG_VERSION")))
            .http_status_as_error(false)
            .timeout_resolve(Some(patience))
            .timeout_connect(Some(patience))
            .timeout_recv_response(Some(patience))
            .timeout_per_read(Some(patience))
            .timeout_per_write(Some(patience))
            .build()
            .new_agent();
        Ok(Self { base, agent, found: HashMap::new() })
    }

    /// Opens an archive from byte `at` on.
    ///
    /// # Errors
    /// Where it is not there, is another file, or cannot be had.
    pub fn open(&mut self, archive: &Archive, at: u64) -> Result<Opened, SourceError> {
        match &self.base {
            Base::Folder(folder) => open_file(folder.join(&archive.file), archive, at),
            Base::Web(base) => {
                let base = base.clone();
                self.open_web(&base, archive, at)
            }
        }
    }

    fn open_web(&mut self, base: &str, archive: &Archive, at: u64) -> Result<Opened, SourceError> {
        let direct = format!("{base}/{}", archive.file);
        // Where an address on an index no longer holds, it is looked for again.
        let url = self.found.remove(&archive.file).unwrap_or(direct.clone());
        let answer = self.get(&url, archive, None, at)?;
        if !absent(&answer) {
            let opened = take(answer, shown(&url), archive, at)?;
            if url != direct {
                self.found.insert(archive.file.clone(), url);
            }
            return Ok(opened);
        }
        // Not a folder with archives: an index of packages, perhaps.
        let page = format!("{base}/{}/", archive.project());
        let answer = self.get(&page, archive, Some(index::ACCEPT), 0)?;
        let missing = || SourceError::NotFound {
            file: archive.file.clone(),
            tried: vec![direct.clone(), page.clone()],
        };
        if answer.status() == 404 || answer.status() == 410 {
            return Err(missing());
        }
        if answer.status() != 200 {
            let status = answer.status().as_u16();
            return Err(SourceError::Refused { file: archive.file.clone(), url: page, status });
        }
        let text = answer.into_body().into_with_config().limit(LONGEST_PAGE).read_to_string();
        let text = text.map_err(|error| unreachable(archive, &page, &error))?;
        let found = index::find(&page, &text, &archive.file).ok_or_else(missing)?;
        if let Some(sha256) = found.sha256.filter(|sha256| *sha256 != archive.sha256) {
            let found = format!("one with SHA-256 {sha256}");
            return Err(SourceError::OtherFile {
                file: archive.file.clone(),
                url: page,
                found,
                expected: archive.size,
            });
        }
        let answer = self.get(&found.url, archive, None, at)?;
        self.found.insert(archive.file.clone(), found.url.clone());
        take(answer, shown(&found.url), archive, at)
    }

    fn get(
        &self,
        url: &str,
        archive: &Archive,
        accept: Option<&str>,
        at: u64,
    ) -> Result<http::Response<Body>, SourceError> {
        let mut request = self.agent.get(url);
        if let Some(accept) = accept {
            request = request.header("accept", accept);
        }
        if at > 0 {
            request = request.header("range", format!("bytes={at}-"));
        }
        request.call().map_err(|error| unreachable(archive, shown(url), &error))
    }
}

/// Whether a server has no such file. Some say so with a page.
fn absent(answer: &http::Response<Body>) -> bool {
    let page = answer.headers().get("content-type").and_then(|kind| kind.to_str().ok());
    matches!(answer.status().as_u16(), 404 | 410)
        || (answer.status() == 200 && page.is_some_and(|kind| kind.starts_with("text/html")))
}

/// The bytes of an answer, where it is one for the archive from `at` on.
fn take(answer: http::Response<Body>, url: &str, archive: &Archive, at: u64) -> Result<Opened, SourceError> {
    let (file, url) = (archive.file.clone(), url.to_owned());
    let header = |name: &str| answer.headers().get(name).and_then(|value| value.to_str().ok());
    let (at, total) = match answer.status().as_u16() {
        200 => (0, header("content-length").and_then(|length| length.parse::<u64>().ok())),
        206 => match header("content-range").and_then(range) {
            Some((start, total)) if start == at => (at, total),
            _ => {
                let found = "a part that was not asked for".to_owned();
                return Err(SourceError::OtherFile { file, url, found, expected: archive.size });
            }
        },
        416 => (at, Some(at)),
        404 | 410 => return Err(SourceError::NotFound { file, tried: vec![url] }),
        status => return Err(SourceError::Refused { file, url, status }),
    };
    if let Some(total) = total.filter(|total| *total != archive.size) {
        return Err(SourceError::OtherFile { file, url, found: bytes(total), expected: archive.size });
    }
    Ok(Opened { at, bytes: Box::new(answer.into_body().into_reader()) })
}

/// First byte and whole length of `bytes 100-199/200`.
fn range(header: &str) -> Option<(u64, Option<u64>)> {
    let (span, total) = header.strip_prefix("bytes ")?.split_once('/')?;
    Some((span.split_once('-')?.0.parse().ok()?, total.parse().ok()))
}

fn open_file(path: PathBuf, archive: &Archive, at: u64) -> Result<Opened, SourceError> {
    let file = archive.file.clone();
    let mut opened = match File::open(&path) {
        Ok(opened) => opened,
        Err(why) if why.kind() == std::io::ErrorKind::NotFound => {
            return Err(SourceError::NotFound { file, tried: vec![path.display().to_string()] });
        }
        Err(why) => return Err(SourceError::File { file, path, why }),
    };
    let size = opened.metadata().and_then(|found| opened.seek(SeekFrom::Start(at)).map(|_| found.len()));
    match size {
        Ok(size) if size != archive.size => {
            let url = path.display().to_string();
            Err(SourceError::OtherFile { file, url, found: bytes(size), expected: archive.size })
        }
        Ok(_) => Ok(Opened { at, bytes: Box::new(opened) }),
        Err(why) => Err(SourceError::File { file, path, why }),
    }
}

fn unreachable(archive: &Archive, url: &str, error: &ureq::Error) -> SourceError {
    let mut why = error.to_string();
    let mut cause = std::error::Error::source(error);
    while let Some(next) = cause {
        let text = next.to_string();
        if !why.contains(&text) {
            why = format!("{why}: {text}");
        }
        cause = next.source();
    }
    SourceError::Unreachable { file: archive.file.clone(), url: url.to_owned(), why }
}

/// An address without what follows `?`, which may be a secret.
fn shown(url: &str) -> &str {
    url.split('?').next().unwrap_or(url)
}

/// The authorities that this system trusts.
fn system_roots() -> anyhow::Result<RootCerts> {
    let found = rustls_native_certs::load_native_certs();
    if let (true, Some(error)) = (found.certs.is_empty(), found.errors.into_iter().next()) {
        return Err(error).context("the system's certificates cannot be read; is ca-certificates installed?");
    }
    Ok(found.certs.iter().map(|der| Certificate::from_der(der).to_owned()).collect::<Vec<_>>().into())
}
