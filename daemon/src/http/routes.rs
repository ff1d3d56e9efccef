//! Who answers which request.
//!
//! In: a request. Out: an answer, counted and timed. What has to ask the daemon does so on a thread where it may wait, a
//! few at a time and not for ever. `/healthz` asks nothing that could wait.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use hyper::body::Incoming;
use hyper::{Method, Request, StatusCode, header};
use serde_json::{Value, json};
use tokio::sync::Semaphore;

use super::access::{Access, Refused};
use super::answer::{self, Answer};
use super::metrics::{self, Format};
use super::{NoPicture, Page, Source, assets, files, lock, login, ready};
use crate::telemetry::{Registry, Value as Metric};

/// Questions to the daemon at one time, and for pictures, which wait for the next frame.
const QUESTIONS: usize = 4;
const PICTURES: usize = 16;
/// How long a question may take.
const SOON: Duration = Duration::from_secs(10);

/// What answers need.
pub(super) struct Context {
    page: Page,
    source: Arc<dyn Source>,
    access: Access,
    clips: PathBuf,
    questions: Arc<Semaphore>,
    pictures: Arc<Semaphore>,
}

/// What is asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Route<'a> {
    Health,
    Ready,
    Metrics,
    Status,
    Series,
    Alerts,
    Thumbnail(&'a str),
    Clip(&'a str, &'a str),
    Login,
    Logout,
    Asset,
    None,
}

impl<'a> Route<'a> {
    fn of(path: &'a str) -> Self {
        match path {
            "/healthz" => Self::Health,
            "/readyz" => Self::Ready,
            "/metrics" => Self::Metrics,
            "/api/status" => Self::Status,
            "/api/series" => Self::Series,
            "/api/alerts" => Self::Alerts,
            "/login" => Self::Login,
            "/logout" => Self::Logout,
            "/" | "/style.css" | "/page.js" | "/draw.js" | "/icon.svg" => Self::Asset,
            _ => {
                let parts: Vec<&str> = path.split('/').collect();
                match parts[..] {
                    ["", "api", "streams", name, "thumbnail.jpg"] if files::is_name(name) => {
                        Self::Thumbnail(name)
                    }
                    ["", "clips", stream, file] => Self::Clip(stream, file),
                    _ => Self::None,
                }
            }
        }
    }

    /// Label of its metrics: one of a few words, whatever is asked for.
    fn name(self) -> &'static str {
        match self {
            Self::Health => "healthz",
            Self::Ready => "readyz",
            Self::Metrics => "metrics",
            Self::Status => "status",
            Self::Series => "series",
            Self::Alerts => "alerts",
            Self::Thumbnail(_) => "thumbnail",
            Self::Clip(..) => "clip",
            Self::Login | Self::Logout => "login",
            Self::Asset => "page",
            Self::None => "none",
        }
    }

    fn takes(self, method: &Method) -> bool {
        match self {
            Self::Logout => method == Method::POST,
            Self::Login => [Method::GET, Method::HEAD, Method::POST].contains(method),
            _ => [Method::GET, Method::HEAD].contains(method),
        }
    }

    fn methods(self) -> &'static str {
        match self {
            Self::Logout => "POST",
            Self::Login => "GET, HEAD, POST",
            _ => "GET, HEAD",
        }
    }
}

impl Context {
    pub(super) fn new(page: Page, source: Arc<dyn Source>, access: Access, clips: PathBuf) -> Self {
        let places = |count| Arc::new(Semaphore::new(count));
        Self { page, source, access, clips, questions: places(QUESTIONS), pictures: places(PICTURES) }
    }

    fn registry(&self) -> &Registry {
        &self.page.0.registry
    }

    /// Answers a request.
    pub(super) async fn answer(&self, request: Request<Incoming>) -> Answer {
        let started = Instant::now();
        let path = request.uri().path().to_owned();
        let route = Route::of(&path);
        let answer = self.decide(route, &path, request).await;
        let code = answer.status();
        let registry = self.registry();
        registry
            .histogram("http_request_seconds", &[("route", route.name())])
            .record_duration(started.elapsed());
        registry.counter("http_requests_total", &[("code", code.as_str()), ("route", route.name())]).inc();
        answer
    }

    async fn decide(&self, route: Route<'_>, path: &str, request: Request<Incoming>) -> Answer {
        if !route.takes(request.method()) {
            let mut answer =
                answer::error(StatusCode::METHOD_NOT_ALLOWED, "this method is not for this address");
            answer::set(&mut answer, header::ALLOW, route.methods());
            return answer;
        }
        // Alive or not is no secret, and whoever watches over the daemon need not have the token.
        let open = route == Route::Health
            || (self.access.has_token() && (route == Route::Login || assets::is_open(path)));
        if !open && let Err(refused) = self.access.check(request.uri().host(), request.headers()) {
            return self.refuse(refused, route, path);
        }
        match route {
            Route::Health => match self.source.alive() {
                Ok(()) => answer::value(StatusCode::OK, &json!({ "alive": true })),
                Err(why) => answer::value(
                    StatusCode::SERVICE_UNAVAILABLE,
                    &json!({ "alive": false, "reasons": [why] }),
                ),
            },
            Route::Ready => match self.ask(|source| source.status()).await {
                Ok(status) => {
                    let (ready, body) = ready::ready(&status);
                    answer::value(if ready { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE }, &body)
                }
                Err(answer) => answer,
            },
            Route::Metrics => {
                let accept = request.headers().get(header::ACCEPT).and_then(|accept| accept.to_str().ok());
                let format = Format::wanted(accept.unwrap_or_default());
                answer::bytes(StatusCode::OK, format.content_type(), metrics::text(self.registry(), format))
            }
            Route::Status => match self.ask(|source| source.status()).await {
                Ok(status) => answer::value(StatusCode::OK, &self.dressed(status)),
                Err(answer) => answer,
            },
            Route::Series => answer::value(StatusCode::OK, &lock(&self.page.0.series).value()),
            Route::Alerts => {
                // Looks for files.
                let (page, clips) = (self.page.clone(), self.clips.clone());
                match self.ask(move |_| page.0.alerts.list(&clips)).await {
                    Ok(alerts) => answer::value(StatusCode::OK, &json!({ "alerts": alerts })),
                    Err(answer) => answer,
                }
            }
            Route::Thumbnail(name) => self.thumbnail(name, &request).await,
            Route::Clip(stream, file) => files::send(&self.clips, stream, file, request.headers()).await,
            Route::Login if request.method() == Method::POST => {
                login::log_in(&self.access, self.registry(), request).await
            }
            Route::Login if self.access.has_token() => assets::login(StatusCode::OK, false),
            Route::Login => answer::redirect("/"),
            Route::Logout => login::log_out(&self.access, &request),
            Route::Asset => assets::find(path, request.headers()).unwrap_or_else(none),
            Route::None => none(),
        }
    }

    fn refuse(&self, refused: Refused, route: Route<'_>, path: &str) -> Answer {
        let why = match refused {
            Refused::Hosts => {
                return answer::error(StatusCode::BAD_REQUEST, "the request names several hosts");
            }
            Refused::Host => {
                return answer::error(
                    StatusCode::MISDIRECTED_REQUEST,
                    "without a token (http.token_file) the page answers only to localhost and to addresses, not to names: \
                     another web page could have let its name point here",
                );
            }
            Refused::NoToken if route == Route::Asset && path == "/" => return answer::redirect("/login"),
            Refused::NoToken => "this demands the token: Authorization: Bearer TOKEN, or log in at /login",
            Refused::WrongToken => {
                self.registry().counter("http_logins_refused_total", &[]).inc();
                "that is not the token"
            }
        };
        let mut answer = answer::error(StatusCode::UNAUTHORIZED, why);
        answer::set(&mut answer, header::WWW_AUTHENTICATE, "Bearer realm=\"watchpost\"");
        answer
    }

    /// Asks the daemon something, on a thread where it may wait.
    async fn ask<T: Send + 'static>(
        &self,
        question: impl FnOnce(&dyn Source) -> T + Send + 'static,
    ) -> Result<T, Answer> {
        self.ask_among(&self.questions, question).await
    }

    /// The same, as one of so many at a time.
    async fn ask_among<T: Send + 'static>(
        &self,
        places: &Arc<Semaphore>,
        question: impl FnOnce(&dyn Source) -> T + Send + 'static,
    ) -> Result<T, Answer> {
        let source = Arc::clone(&self.source);
        let places = Arc::clone(places);
        let asked = async {
            // Held on the thread: a question that hangs keeps its place.
            let place = places.acquire_owned().await.ok();
            let thread = tokio::task::spawn_blocking(move || {
                let _place = place;
                question(&*source)
            });
            thread.await.ok()
        };
        match tokio::time::timeout(SOON, asked).await {
            Ok(Some(answer)) => Ok(answer),
            Ok(None) => Err(answer::error(StatusCode::INTERNAL_SERVER_ERROR, "internal error; see the log")),
            Err(_) => Err(answer::error(
                StatusCode::SERVICE_UNAVAILABLE,
                "the daemon is busy: it did not answer in time",
            )),
        }
    }

    async fn thumbnail(&self, name: &str, request: &Request<Incoming>) -> Answer {
        let stream = name.to_owned();
        let picture = match self.ask_among(&self.pictures, move |source| source.thumbnail(&stream)).await {
            Ok(picture) => picture,
            Err(answer) => return answer,
        };
        match picture {
            Ok(picture) => {
                let tag = format!("\"{:x}-{:x}\"", picture.captured, picture.frame);
                let had = request.headers().get(header::IF_NONE_MATCH).and_then(|had| had.to_str().ok());
                let mut answer = if had == Some(&tag) {
                    answer::empty(StatusCode::NOT_MODIFIED)
                } else {
                    answer::bytes(StatusCode::OK, "image/jpeg", hyper::body::Bytes::from_owner(picture.jpeg))
                };
                answer::set(&mut answer, header::ETAG, &tag);
                answer::set(&mut answer, header::CACHE_CONTROL, "private, no-cache");
                answer
            }
            Err(NoPicture::Unknown) => answer::error(StatusCode::NOT_FOUND, format!("no stream \"{name}\"")),
            // Nothing is wrong: there is nothing to see.
            Err(NoPicture::NotNow(why)) => {
                let mut answer = answer::empty(StatusCode::NO_CONTENT);
                let plain: String = why.chars().filter(|c| (' '..='~').contains(c)).collect();
                answer::set(&mut answer, header::HeaderName::from_static("watchpost-reason"), &plain);
                answer
            }
        }
    }

    /// The status with the box's health, and without what the page has no use for.
    fn dressed(&self, mut status: Value) -> Value {
        for plugin in status["plugins"].as_array_mut().into_iter().flatten() {
            if let Some(plugin) = plugin.as_object_mut() {
                plugin.remove("config_schema");
            }
        }
        let gauge = |name: &str| match self.registry().value(name, &[]) {
            Some(Metric::Gauge(value)) if value.is_finite() => json!(value),
            _ => Value::Null,
        };
        status["health"] = json!({
            "cpu": gauge("box_cpu_ratio"),
            "memory_used": gauge("box_memory_used_bytes"),
            "memory_size": gauge("box_memory_size_bytes"),
            "disk_free": gauge("box_disk_free_bytes"),
            "disk_size": gauge("box_disk_size_bytes"),
            "daemon_cpu": gauge("daemon_cpu_ratio"),
            "daemon_memory": gauge("daemon_memory_bytes"),
        });
        status
    }
}

fn none() -> Answer {
    answer::error(StatusCode::NOT_FOUND, "nothing is here")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_lead_where_they_should() {
        assert_eq!(Route::of("/api/streams/gate-7/thumbnail.jpg"), Route::Thumbnail("gate-7"));
        assert_eq!(Route::of("/clips/gate/7.mp4"), Route::Clip("gate", "7.mp4"));
        for path in [
            "/api/streams/../thumbnail.jpg",
            "/api/streams/a/b/thumbnail.jpg",
            "/clips/gate/../../7.mp4",
            "/clips",
            "//",
            "/Metrics",
            "",
            "*",
        ] {
            assert_eq!(Route::of(path), Route::None, "{path}");
        }
        assert!(!Route::Metrics.takes(&Method::POST) && Route::Login.takes(&Method::POST));
        assert!(Route::Logout.takes(&Method::POST) && !Route::Logout.takes(&Method::GET));
    }
}
