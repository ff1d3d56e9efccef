//! What is recorded and shown of a stream: live thumbnails, snapshots, clips, and what happens when the disk is full.

mod clips;
mod disk;
mod incidents;
mod picture;
mod thumbnail;
