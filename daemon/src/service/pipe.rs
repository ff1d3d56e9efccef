//! What happens when nobody reads the output any more, as in `watchpost plugin list | head -1`.
//!
//! In: nothing. Out: the signal of a closed pipe ends the process again, quietly, as it ends `cat`. Rust turns that
//! signal off, and printing then panics. For commands that print and end; never for the daemon, nor for anything that
//! speaks with a network, where the same signal may come from a connection.
#![allow(unsafe_code)]

/// Lets a closed pipe end this process.
pub fn end_with_the_reader() {
    // SAFETY: sets a signal to its default, which no other thread of this program ever changes; nothing is handled in
    // this process, so nothing of it can run at a bad time.
    unsafe { libc::signal(libc::SIGPIPE, libc::SIG_DFL) };
}
