//! WASI, inert: what language runtimes import even where a plugin uses none of it.
//!
//! In: calls of a plugin's runtime. Out: an empty environment, an empty standard input, standard output and
//! error as lines of the plugin's log, clocks that show stream time, random numbers from a seed of the entry's
//! name, sleeps that end at once. Owned by the instance's [`Guest`]. `exit` is a trap. Nothing else of WASI
//! exists: a plugin that asks for files, sockets or HTTP is refused when it is loaded.

use wasmtime::component::Resource;

use super::bindings::inert::wasi::{cli, clocks, io, random};
use super::failure::Failure;
use super::guest::Guest;

/// A resource of which there is none.
pub enum Never {}
/// A pollable: always ready.
pub struct Ready;
/// The standard input: at its end.
pub struct Nothing;
/// Standard output (1) or error (2), by its handle's number.
pub struct Sink;

type Result<T> = wasmtime::Result<T>;
type Stream<T> = Result<std::result::Result<T, io::streams::StreamError>>;

/// Most random bytes a call may ask for.
const RANDOM_BYTES: u64 = 1 << 16;
/// Most bytes a call may write.
const WRITE_BYTES: u64 = 1 << 16;

impl cli::environment::Host for Guest {
    fn get_environment(&mut self) -> Result<Vec<(String, String)>> {
        Ok(Vec::new())
    }
    fn get_arguments(&mut self) -> Result<Vec<String>> {
        Ok(Vec::new())
    }
    fn initial_cwd(&mut self) -> Result<Option<String>> {
        Ok(None)
    }
}

impl cli::exit::Host for Guest {
    fn exit(&mut self, _status: std::result::Result<(), ()>) -> Result<()> {
        Err(wasmtime::Error::new(Failure::Exit))
    }
}

impl cli::stdin::Host for Guest {
    fn get_stdin(&mut self) -> Result<Resource<Nothing>> {
        Ok(Resource::new_own(0))
    }
}
impl cli::stdout::Host for Guest {
    fn get_stdout(&mut self) -> Result<Resource<Sink>> {
        Ok(Resource::new_own(1))
    }
}
impl cli::stderr::Host for Guest {
    fn get_stderr(&mut self) -> Result<Resource<Sink>> {
        Ok(Resource::new_own(2))
    }
}

impl cli::terminal_input::Host for Guest {}
impl cli::terminal_input::HostTerminalInput for Guest {
    fn drop(&mut self, _: Resource<Never>) -> Result<()> {
        Ok(())
    }
}
impl cli::terminal_output::Host for Guest {}
impl cli::terminal_output::HostTerminalOutput for Guest {
    fn drop(&mut self, _: Resource<Never>) -> Result<()> {
        Ok(())
    }
}
impl cli::terminal_stdin::Host for Guest {
    fn get_terminal_stdin(&mut self) -> Result<Option<Resource<Never>>> {
        Ok(None)
    }
}
impl cli::terminal_stdout::Host for Guest {
    fn get_terminal_stdout(&mut self) -> Result<Option<Resource<Never>>> {
        Ok(None)
    }
}
impl cli::terminal_stderr::Host for Guest {
    fn get_terminal_stderr(&mut self) -> Result<Option<Resource<Never>>> {
        Ok(None)
    }
}

impl clocks::monotonic_clock::Host for Guest {
    fn now(&mut self) -> Result<u64> {
        Ok(self.now)
    }
    fn resolution(&mut self) -> Result<u64> {
        Ok(1)
    }
    fn subscribe_instant(&mut self, _: u64) -> Result<Resource<Ready>> {
        Ok(Resource::new_own(0))
    }
    fn subscribe_duration(&mut self, _: u64) -> Result<Resource<Ready>> {
        Ok(Resource::new_own(0))
    }
}

impl clocks::wall_clock::Host for Guest {
    fn now(&mut self) -> Result<clocks::wall_clock::Datetime> {
        let (seconds, micros) = (self.captured / 1_000_000, self.captured % 1_000_000);
        Ok(clocks::wall_clock::Datetime { seconds, nanoseconds: micros as u32 * 1000 })
    }
    fn resolution(&mut self) -> Result<clocks::wall_clock::Datetime> {
        Ok(clocks::wall_clock::Datetime { seconds: 0, nanoseconds: 1000 })
    }
}

impl io::error::Host for Guest {}
impl io::error::HostError for Guest {
    fn to_debug_string(&mut self, _: Resource<Never>) -> Result<String> {
        Ok(String::new())
    }
    fn drop(&mut self, _: Resource<Never>) -> Result<()> {
        Ok(())
    }
}

impl io::poll::Host for Guest {
    fn poll(&mut self, pollables: Vec<Resource<Ready>>) -> Result<Vec<u32>> {
        Ok((0..).take(pollables.len()).collect())
    }
}
impl io::poll::HostPollable for Guest {
    fn ready(&mut self, _: Resource<Ready>) -> Result<bool> {
        Ok(true)
    }
    fn block(&mut self, _: Resource<Ready>) -> Result<()> {
        Ok(())
    }
    fn drop(&mut self, _: Resource<Ready>) -> Result<()> {
        Ok(())
    }
}

impl io::streams::Host for Guest {}
impl io::streams::HostInputStream for Guest {
    fn read(&mut self, _: Resource<Nothing>, _: u64) -> Stream<Vec<u8>> {
        Ok(Err(io::streams::StreamError::Closed))
    }
    fn blocking_read(&mut self, _: Resource<Nothing>, _: u64) -> Stream<Vec<u8>> {
        Ok(Err(io::streams::StreamError::Closed))
    }
    fn skip(&mut self, _: Resource<Nothing>, _: u64) -> Stream<u64> {
        Ok(Err(io::streams::StreamError::Closed))
    }
    fn blocking_skip(&mut self, _: Resource<Nothing>, _: u64) -> Stream<u64> {
        Ok(Err(io::streams::StreamError::Closed))
    }
    fn subscribe(&mut self, _: Resource<Nothing>) -> Result<Resource<Ready>> {
        Ok(Resource::new_own(0))
    }
    fn drop(&mut self, _: Resource<Nothing>) -> Result<()> {
        Ok(())
    }
}

impl io::streams::HostOutputStream for Guest {
    fn check_write(&mut self, _: Resource<Sink>) -> Stream<u64> {
        Ok(Ok(WRITE_BYTES))
    }
    fn write(&mut self, sink: Resource<Sink>, contents: Vec<u8>) -> Stream<()> {
        self.written(sink.rep() == 2, &contents);
        Ok(Ok(()))
    }
    fn blocking_write_and_flush(&mut self, sink: Resource<Sink>, contents: Vec<u8>) -> Stream<()> {
        self.write(sink, contents)
    }
    fn flush(&mut self, _: Resource<Sink>) -> Stream<()> {
        Ok(Ok(()))
    }
    fn blocking_flush(&mut self, _: Resource<Sink>) -> Stream<()> {
        Ok(Ok(()))
    }
    fn subscribe(&mut self, _: Resource<Sink>) -> Result<Resource<Ready>> {
        Ok(Resource::new_own(0))
    }
    fn write_zeroes(&mut self, _: Resource<Sink>, _: u64) -> Stream<()> {
        Ok(Ok(()))
    }
    fn blocking_write_zeroes_and_flush(&mut self, _: Resource<Sink>, _: u64) -> Stream<()> {
        Ok(Ok(()))
    }
    fn splice(&mut self, _: Resource<Sink>, _: Resource<Nothing>, _: u64) -> Stream<u64> {
        Ok(Err(io::streams::StreamError::Closed))
    }
    fn blocking_splice(&mut self, _: Resource<Sink>, _: Resource<Nothing>, _: u64) -> Stream<u64> {
        Ok(Err(io::streams::StreamError::Closed))
    }
    fn drop(&mut self, _: Resource<Sink>) -> Result<()> {
        Ok(())
    }
}

impl random::random::Host for Guest {
    fn get_random_bytes(&mut self, len: u64) -> Result<Vec<u8>> {
        if len > RANDOM_BYTES {
            return Err(wasmtime::Error::new(Failure::Random { asked: len, limit: RANDOM_BYTES }));
        }
        let words = (0..len.div_ceil(8)).flat_map(|_| self.random().to_le_bytes());
        Ok(words.take(len as usize).collect())
    }
    fn get_random_u64(&mut self) -> Result<u64> {
        Ok(self.random())
    }
}
impl random::insecure::Host for Guest {
    fn get_insecure_random_bytes(&mut self, len: u64) -> Result<Vec<u8>> {
        random::random::Host::get_random_bytes(self, len)
    }
    fn get_insecure_random_u64(&mut self) -> Result<u64> {
        Ok(self.random())
    }
}
impl random::insecure_seed::Host for Guest {
    fn insecure_seed(&mut self) -> Result<(u64, u64)> {
        Ok((self.random(), self.random()))
    }
}
