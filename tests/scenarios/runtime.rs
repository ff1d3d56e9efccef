//! The GPU runtime: fetched from a real web server, adopted from folders, chosen, used by the daemon, checked, removed.
//!
//! In: made-up wheels and libraries; ONNX Runtime's library for the CPU stands in for the one with GPU providers, so that
//! what is fetched and adopted really loads. Out: what the command says and leaves in its folder, what the server was
//! asked, what the daemon loads. The real archives of NVIDIA's libraries are pinned in the tree and not fetched here.

mod adopted;
mod fetched;
mod refused;
mod support;
