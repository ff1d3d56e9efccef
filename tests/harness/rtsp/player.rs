//! Plays a file's packets into the server's media, over and over, timestamps going on.
//!
//! In: a file, read once. Out: packets pushed into `appsrc` whenever it asks for more; the server sends them at
//! their time. A player lives as long as its media.

use std::path::Path;
use std::sync::{Arc, Condvar, Mutex, Weak};
use std::time::{Duration, Instant};

use gstreamer::{self as gst, prelude::*};
use gstreamer_app as gst_app;

/// One elementary stream of a file.
struct Track {
    caps: gst::Caps,
    /// Buffers with running times.
    packets: Vec<gst::Buffer>,
}

/// A file's packets.
pub(super) struct Clip {
    video: Track,
    audio: Option<Track>,
    duration: gst::ClockTime,
}

impl Clip {
    /// Reads a file with H.264 or H.265 video and perhaps AAC audio.
    pub(super) fn load(file: &Path) -> Self {
        let pipeline = gst::Pipeline::new();
        let source = gst::ElementFactory::make("filesrc").property("location", file).build().unwrap();
        let parse = gst::ElementFactory::make("parsebin").build().unwrap();
        pipeline.add_many([&source, &parse]).unwrap();
        source.link(&parse).unwrap();
        let tracks: Arc<Mutex<Vec<Track>>> = Arc::default();
        let weak = pipeline.downgrade();
        let found = tracks.clone();
        parse.connect_pad_added(move |_, pad| {
            let Some(pipeline) = weak.upgrade() else { return };
            let sink = gst_app::AppSink::builder().sync(false).async_(false).build();
            let index = {
                let mut found = found.lock().unwrap();
                found.push(Track { caps: gst::Caps::new_empty(), packets: Vec::new() });
                found.len() - 1
            };
            let found = found.clone();
            let callbacks = gst_app::AppSinkCallbacks::builder().new_sample(move |sink| {
                let sample = sink.pull_sample().map_err(|_| gst::FlowError::Eos)?;
                let track = &mut found.lock().unwrap()[index];
                track.caps = sample.caps_owned().unwrap();
                track.packets.push(timed(&sample, track.packets.len()));
                Ok(gst::FlowSuccess::Ok)
            });
            sink.set_callbacks(callbacks.build());
            pipeline.add(&sink).unwrap();
            sink.sync_state_with_parent().unwrap();
            pad.link(&sink.static_pad("sink").unwrap()).unwrap();
        });
        pipeline.set_state(gst::State::Playing).unwrap();
        let end = pipeline.bus().unwrap().timed_pop_filtered(
            gst::ClockTime::from_seconds(60),
            &[gst::MessageType::Eos, gst::MessageType::Error],
        );
        pipeline.set_state(gst::State::Null).unwrap();
        let played = end.is_some_and(|message| message.type_() == gst::MessageType::Eos);
        assert!(played, "{} can be read", file.display());

        let mut tracks = std::mem::take(&mut *tracks.lock().unwrap());
        let mut take = |kind: &str| {
            let at = tracks
                .iter()
                .position(|t| t.caps.structure(0).is_some_and(|s| s.name().starts_with(kind)))?;
            Some(tracks.swap_remove(at))
        };
        let video = take("video/x-h26").expect("H.264 or H.265 in the file");
        let audio = take("audio/mpeg");
        let duration = video.packets.iter().filter_map(|p| Some(p.pts()? + p.duration()?)).max();
        let mut clip = Self { video, audio, duration: duration.expect("packets with times") };
        if let Some(audio) = &mut clip.audio {
            audio.packets.retain(|p| p.pts().is_some_and(|pts| pts < clip.duration));
        }
        clip
    }

    /// What the server's media consists of.
    pub(super) fn launch(&self) -> String {
        let codec =
            self.video.caps.structure(0).unwrap().name().as_str().trim_start_matches("video/x-").to_string();
        let mut launch = format!(
            "( appsrc name=video format=time ! {codec}parse ! rtp{codec}pay name=pay0 pt=96 config-interval=-1"
        );
        if self.audio.is_some() {
            // The tee keeps the media alive for a client that sets up the video alone.
            launch.push_str(" appsrc name=audio format=time ! aacparse ! tee allow-not-linked=true");
            launch.push_str(" ! rtpmp4gpay name=pay1 pt=97");
        }
        launch + " )"
    }
}

/// The buffer with running times; a frame each 40 ms where the file has none.
fn timed(sample: &gst::Sample, index: usize) -> gst::Buffer {
    let mut buffer = sample.buffer_owned().unwrap();
    let segment = sample.segment().and_then(|s| s.downcast_ref::<gst::ClockTime>()).cloned();
    let running = |time: Option<gst::ClockTime>| segment.as_ref()?.to_running_time(time?);
    let default = gst::ClockTime::from_mseconds(40);
    let (pts, dts) = (running(buffer.pts()), running(buffer.dts()));
    let buffer_mut = buffer.make_mut();
    buffer_mut.set_pts(pts.or(dts).unwrap_or(default * index as u64));
    buffer_mut.set_dts(dts);
    if buffer_mut.duration().is_none() {
        buffer_mut.set_duration(default);
    }
    buffer
}

/// All players of a server.
#[derive(Default)]
pub(super) struct Players {
    state: Arc<(Mutex<State>, Condvar)>,
}

#[derive(Default)]
struct State {
    silent: bool,
    /// How many there are, also such as are just being freed.
    alive: usize,
    players: Vec<Weak<Player>>,
}

/// Plays one track into one `appsrc`.
struct Player {
    clip: Arc<Clip>,
    video: bool,
    source: gst::glib::WeakRef<gst_app::AppSrc>,
    position: Mutex<Position>,
    shared: Arc<(Mutex<State>, Condvar)>,
}

#[derive(Default)]
struct Position {
    next: usize,
    /// Added to the file's times: grows with each round, and by each silence.
    shift: gst::ClockTime,
    /// The source asked for more while silence was ordered.
    starved: bool,
}

impl Players {
    /// Feeds a media that was just made.
    pub(super) fn attach(&self, bin: &gst::Bin, clip: &Arc<Clip>) {
        for (name, video) in [("video", true), ("audio", false)] {
            let Some(source) = bin.by_name(name).and_then(|e| e.downcast::<gst_app::AppSrc>().ok()) else {
                continue;
            };
            let track = if video { Some(&clip.video) } else { clip.audio.as_ref() };
            source.set_caps(track.map(|track| &track.caps));
            let player = Arc::new(Player {
                clip: clip.clone(),
                video,
                source: source.downgrade(),
                position: Mutex::default(),
                shared: self.state.clone(),
            });
            let mut state = self.state.0.lock().unwrap();
            state.alive += 1;
            state.players.retain(|p| p.strong_count() > 0);
            state.players.push(Arc::downgrade(&player));
            drop(state);
            let callbacks = gst_app::AppSrcCallbacks::builder().need_data(move |_, _| player.push(false));
            source.set_callbacks(callbacks.build());
        }
    }

    pub(super) fn silence(&self, silent: bool) {
        let players: Vec<Arc<Player>> = {
            let mut state = self.state.0.lock().unwrap();
            state.silent = silent;
            state.players.iter().filter_map(Weak::upgrade).collect()
        };
        if !silent {
            players.iter().for_each(|player| player.push(true));
        }
    }

    pub(super) fn count(&self) -> usize {
        self.state.0.lock().unwrap().alive
    }

    /// Waits until all media are freed.
    pub(super) fn wait_for_none(&self, limit: Duration) {
        let deadline = Instant::now() + limit;
        let mut state = self.state.0.lock().unwrap();
        while state.alive > 0 {
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                eprintln!("an RTSP server leaves {} media behind", state.alive);
                return;
            }
            state = self.state.1.wait_timeout(state, left).unwrap().0;
        }
    }
}

impl Player {
    /// Pushes the next packet. `resume`: after a silence, with the time that has passed.
    fn push(&self, resume: bool) {
        let Some(source) = self.source.upgrade() else { return };
        let silent = self.shared.0.lock().unwrap().silent;
        let mut position = self.position.lock().unwrap();
        if silent {
            position.starved = true;
            return;
        }
        if resume && !std::mem::take(&mut position.starved) {
            return;
        }
        let track =
            if self.video { &self.clip.video } else { self.clip.audio.as_ref().unwrap_or(&self.clip.video) };
        if position.next >= track.packets.len() {
            position.next = 0;
            position.shift += self.clip.duration;
        }
        let mut buffer = track.packets[position.next].copy();
        position.next += 1;
        if resume && let (Some(now), Some(pts)) = (source.current_running_time(), buffer.pts()) {
            let due = pts + position.shift;
            position.shift += now.checked_sub(due).unwrap_or_default();
        }
        let shift = position.shift;
        let buffer_mut = buffer.make_mut();
        buffer_mut.set_pts(buffer_mut.pts().map(|t| t + shift));
        buffer_mut.set_dts(buffer_mut.dts().map(|t| t + shift));
        // Refused only when the media is being taken down.
        let _ = source.push_buffer(buffer);
    }
}

impl Drop for Player {
    fn drop(&mut self) {
        self.shared.0.lock().unwrap().alive -= 1;
        self.shared.1.notify_all();
    }
}
