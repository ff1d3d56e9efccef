//! Ingest: files of all kinds, damaged ones, live sources that go away and come back, the ring of packets.

mod damaged;
mod play;
