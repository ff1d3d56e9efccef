//! NVENC: which codecs a GPU encodes, and its sessions as a resource that all outputs share.
//!
//! In: a GPU's context. Out: for a codec the element that encodes it straight from video memory, tried by encoding one
//! picture, and a [`Permit`] for each session; or why there is none. One [`CudaEncoding`] a GPU, shared by its outputs.
//! Nothing is looked up: server GPUs have no NVENC at all, other boards allow a few sessions, counted over the whole
//! system by the driver, whose refusal reads "out of memory". So a limit is learnt when a session is refused while others
//! run, and forgotten after a while.

mod probe;
#[cfg(test)]
mod tests;

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use gstreamer::{self as gst, prelude::*};

use super::encoder::longest_group;
use super::spec::{OutputSpec, VideoCodec};
use crate::gpu::gst::CudaContext;

pub(super) use crate::gpu::gst::FEATURE;
pub use crate::gpu::gst::Rendered;

/// A refusal is believed for so long.
const REFUSED_FOR: Duration = Duration::from_secs(60);
/// A limit of sessions is believed for so long: another process may have held some.
const LIMIT_FOR: Duration = Duration::from_secs(600);

/// Encoding on one GPU.
pub struct CudaEncoding {
    context: Arc<CudaContext>,
    inside: Mutex<Inside>,
}

#[derive(Default)]
struct Inside {
    open: u32,
    /// Sessions that were open when a further one was refused, and when that was.
    limit: Option<(u32, Instant)>,
    codecs: HashMap<VideoCodec, Known>,
    /// The last reason that was logged.
    said: String,
}

/// What is known of a codec.
enum Known {
    Works(String),
    Refused(String, Instant),
}

impl std::fmt::Debug for CudaEncoding {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "CudaEncoding({:?})", self.context)
    }
}

impl CudaEncoding {
    /// Encoding with a GPU's context; nothing is tried yet.
    #[must_use]
    pub fn new(context: Arc<CudaContext>) -> Self {
        Self { context, inside: Mutex::default() }
    }

    fn lock(&self) -> MutexGuard<'_, Inside> {
        self.inside.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether this GPU can be expected to encode a codec: the element is there and was not refused lately. Opens nothing.
    ///
    /// # Errors
    /// Why not.
    pub fn may_encode(&self, codec: VideoCodec) -> Result<String, String> {
        match self.lock().known(codec) {
            Some(Ok(name)) => Ok(name),
            Some(Err(reason)) => Err(reason),
            None => self
                .elements(codec)
                .first()
                .map(|factory| factory.name().to_string())
                .ok_or_else(|| no_element(codec)),
        }
    }

    /// The element of this GPU that encodes a codec, tried by encoding one picture. What came of it is remembered, a
    /// refusal for a minute.
    ///
    /// # Errors
    /// Why there is none.
    pub fn try_codec(&self, codec: VideoCodec) -> Result<String, String> {
        if let Some(known) = self.lock().known(codec) {
            return known;
        }
        let elements = self.elements(codec);
        let mut tried = Err(no_element(codec));
        for factory in &elements {
            let name = factory.name().to_string();
            tried = match probe::encode_one(&self.context, &name) {
                Ok(()) => Ok(name),
                Err(reason) => Err(format!("{name} does not encode: {reason}")),
            };
            if tried.is_ok() {
                break;
            }
        }
        let known = match &tried {
            Ok(name) => Known::Works(name.clone()),
            Err(reason) => Known::Refused(reason.clone(), Instant::now()),
        };
        let mut inside = self.lock();
        // Refused while others run: that is a limit, and says nothing of the codec.
        if tried.is_err() && !elements.is_empty() && inside.open > 0 {
            inside.limit = Some((inside.open, Instant::now()));
        } else {
            inside.codecs.insert(codec, known);
        }
        tried
    }

    /// How many sessions of a codec can be open at once, up to `most`, beside those that are, and why there is no further
    /// one: for `doctor`.
    #[must_use]
    pub fn count_sessions(&self, codec: VideoCodec, most: usize) -> (usize, Option<String>) {
        let name = match self.try_codec(codec) {
            Ok(name) => name,
            Err(reason) => return (0, Some(reason)),
        };
        let mut held = Vec::new();
        while held.len() < most {
            match probe::open(&self.context, &name) {
                Ok(session) => held.push(session),
                Err(reason) => return (held.len(), Some(reason)),
            }
        }
        (held.len(), None)
    }

    /// Sessions that outputs have open, and the limit where one was met.
    #[must_use]
    pub fn sessions(&self) -> (u32, Option<u32>) {
        let mut inside = self.lock();
        (inside.open, inside.limit())
    }

    /// A session for an output.
    pub(super) fn open(gpu: &Arc<Self>, codec: VideoCodec) -> Result<Permit, String> {
        let name = {
            let mut inside = gpu.lock();
            inside.check_limit()?;
            inside.known(codec)
        };
        let name = match name {
            Some(known) => known?,
            None => gpu.try_codec(codec)?,
        };
        let mut inside = gpu.lock();
        inside.check_limit()?;
        inside.open += 1;
        drop(inside);
        Ok(Permit { gpu: Arc::clone(gpu), codec, name })
    }

    /// Whether a reason is new and shall be logged.
    pub(super) fn says(&self, reason: &str) -> bool {
        let mut inside = self.lock();
        let new = inside.said != reason;
        reason.clone_into(&mut inside.said);
        new
    }

    /// Gives a pipeline the context, so that no element makes one of its own.
    pub(super) fn give(&self, pipeline: &gst::Pipeline) {
        self.context.give(pipeline);
    }

    /// Encoders of a codec that take video memory of this GPU, those of highest rank first.
    fn elements(&self, codec: VideoCodec) -> Vec<gst::ElementFactory> {
        let output = gst::Caps::new_empty_simple(codec.media());
        let input = gst::Caps::builder("video/x-raw").features([FEATURE]).field("format", "NV12").build();
        let kinds = gst::ElementFactoryType::ENCODER;
        let mut found: Vec<_> = gst::ElementFactory::factories_with_type(kinds, gst::Rank::NONE)
            .into_iter()
            .filter(|factory| factory.klass().contains("Hardware") && !factory.name().contains("autogpu"))
            .filter(|factory| factory.can_src_any_caps(&output) && factory.can_sink_any_caps(&input))
            .filter(|factory| self.is_of_this_gpu(factory))
            .collect();
        // The newer implementation first, where the rank says nothing (1.22: nvcudah264enc beside nvh264enc).
        found.sort_by_key(|factory| std::cmp::Reverse((factory.rank(), factory.name().contains("cuda"))));
        found
    }

    fn is_of_this_gpu(&self, factory: &gst::ElementFactory) -> bool {
        let Ok(element) = factory.create().build() else { return false };
        let device = match element.find_property("cuda-device-id") {
            Some(property) if property.value_type() == gst::glib::Type::U32 => {
                element.property::<u32>("cuda-device-id")
            }
            _ => 0,
        };
        device == self.context.device()
    }
}

impl Inside {
    fn known(&mut self, codec: VideoCodec) -> Option<Result<String, String>> {
        match self.codecs.get(&codec)? {
            Known::Works(name) => Some(Ok(name.clone())),
            Known::Refused(reason, at) if at.elapsed() < REFUSED_FOR => Some(Err(reason.clone())),
            Known::Refused(..) => {
                self.codecs.remove(&codec);
                None
            }
        }
    }

    fn limit(&mut self) -> Option<u32> {
        self.limit = self.limit.filter(|(_, at)| at.elapsed() < LIMIT_FOR);
        self.limit.map(|(limit, _)| limit)
    }

    fn check_limit(&mut self) -> Result<(), String> {
        match self.limit() {
            Some(limit) if self.open >= limit => {
                Err(format!("all {limit} NVENC sessions of the GPU are in use"))
            }
            _ => Ok(()),
        }
    }
}

fn no_element(codec: VideoCodec) -> String {
    format!("no NVENC element for {codec} on this GPU")
}

/// One session of NVENC; dropping it gives it back.
#[derive(Debug)]
pub(super) struct Permit {
    gpu: Arc<CudaEncoding>,
    codec: VideoCodec,
    name: String,
}

impl Permit {
    /// The element's name.
    pub(super) fn name(&self) -> &str {
        &self.name
    }

    /// The element, not yet in a pipeline.
    pub(super) fn element(&self) -> Result<gst::Element, String> {
        gst::ElementFactory::make(&self.name).build().map_err(|error| error.to_string())
    }

    /// The driver did not open it after all.
    pub(super) fn refused(self, reason: &str) {
        let mut inside = self.gpu.lock();
        let others = inside.open.saturating_sub(1);
        if others > 0 {
            inside.limit = Some((others, Instant::now()));
        } else {
            let reason = format!("{} does not open: {reason}", self.name);
            inside.codecs.insert(self.codec, Known::Refused(reason, Instant::now()));
        }
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        let mut inside = self.gpu.lock();
        inside.open = inside.open.saturating_sub(1);
    }
}

/// Sets an NVENC element: bitrate, low latency for what is watched live, no B-frames, parameter sets with each key frame.
/// The names are those of the older and the newer implementation, 1.22 to 1.28; each element has some of them.
pub(super) fn configure(element: &gst::Element, spec: &OutputSpec) {
    let live = !spec.is_file();
    let kilobits = (spec.bits() / 1000).max(1).to_string();
    set(element, "bitrate", &kilobits);
    for rate_control in ["rate-control", "rc-mode"] {
        choose(element, rate_control, if live { &["cbr"] } else { &["vbr", "cbr"] });
    }
    if live {
        set(element, "vbv-buffer-size", &kilobits);
        choose(element, "tune", &["low-latency"]);
        let tuned = element.find_property("tune").is_some();
        choose(element, "preset", if tuned { &["p4"] } else { &["low-latency-hq", "p4"] });
        for name in ["zerolatency", "zero-reorder-delay"] {
            set(element, name, "true");
        }
        set(element, "rc-lookahead", "0");
    } else {
        choose(element, "tune", &["high-quality"]);
        choose(element, "preset", &["p4", "hq"]);
    }
    for name in ["bframes", "b-frames"] {
        set(element, name, "0");
    }
    set(element, "gop-size", &longest_group(spec).to_string());
    set(element, "repeat-sequence-header", "true");
    set(element, "aud", "false");
    set(element, "qos", "false");
}

/// An element's error in a few words: the last line of its details, where it has some, says more than its text.
pub(super) fn words(error: &gst::message::Error) -> String {
    let detail = error.debug();
    let last = detail.as_deref().and_then(|text| text.lines().last()).map(str::trim);
    match last {
        Some(last) if !last.is_empty() && !last.contains("/GstPipeline:") => last.to_owned(),
        _ => error.error().to_string(),
    }
}

/// Sets a property that this element may or may not have.
fn set(element: &gst::Element, name: &str, value: &str) {
    if element.find_property(name).is_some() {
        element.set_property_from_str(name, value);
    }
}

/// Sets a property to the first of these names that it knows.
fn choose(element: &gst::Element, name: &str, values: &[&str]) {
    let Some(property) = element.find_property(name) else { return };
    let Some(class) = gst::glib::EnumClass::with_type(property.value_type()) else { return };
    if let Some(value) = values.iter().find(|value| class.value_by_nick(value).is_some()) {
        element.set_property_from_str(name, value);
    }
}
