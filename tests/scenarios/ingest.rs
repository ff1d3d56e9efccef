//! Ingest: files of all kinds, damaged ones, live sources that go away and come back, the ring of packets.

pub mod clips;
mod damaged;
mod files;
mod keyframe;
mod leaks;
mod live;
mod packets;
mod play;
