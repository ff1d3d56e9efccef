//! A gate in front of a TCP server: what goes through it can be cut off, or stopped in one direction.
//!
//! In: a server's port. Out: a port of its own that leads there. Its threads end when it is dropped. It is
//! how a test makes a broker "away" or "without an answer" at a moment it chooses.

use std::io::{Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::sync::{Arc, Condvar, Mutex};
use std::thread::JoinHandle;

#[derive(Debug, Default)]
struct State {
    closed: bool,
    silent: bool,
    stop: bool,
    streams: Vec<TcpStream>,
    threads: Vec<JoinHandle<()>>,
}

/// A gate.
#[derive(Debug)]
pub struct Gate {
    port: u16,
    shared: Arc<(Mutex<State>, Condvar)>,
    acceptor: Option<JoinHandle<()>>,
}

impl Gate {
    /// An open gate to `server`, a port on this machine.
    #[must_use]
    pub fn new(server: u16) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let shared = Arc::new((Mutex::new(State::default()), Condvar::new()));
        let inside = Arc::clone(&shared);
        let acceptor = std::thread::spawn(move || {
            for client in listener.incoming() {
                let mut state = inside.0.lock().unwrap();
                if state.stop {
                    return;
                }
                let (Ok(client), false) = (client, state.closed) else { continue };
                let Ok(server) = TcpStream::connect(("127.0.0.1", server)) else { continue };
                let pair = || (client.try_clone().unwrap(), server.try_clone().unwrap());
                let ((client_in, server_out), (client_out, server_in)) = (pair(), pair());
                let answers = Arc::clone(&inside);
                state.streams.extend([client, server]);
                state.threads.push(std::thread::spawn(move || copy(client_in, server_out, || {})));
                state.threads.push(std::thread::spawn(move || {
                    copy(server_in, client_out, || {
                        let state = answers.0.lock().unwrap();
                        drop(answers.1.wait_while(state, |state| state.silent && !state.stop).unwrap());
                    });
                }));
            }
        });
        Self { port, shared, acceptor: Some(acceptor) }
    }

    /// Its port.
    #[must_use]
    pub fn port(&self) -> u16 {
        self.port
    }

    /// Its address, for MQTT.
    #[must_use]
    pub fn url(&self) -> String {
        format!("mqtt://127.0.0.1:{}", self.port)
    }

    /// Cuts all connections and lets no new one through.
    pub fn close(&self) {
        let mut state = self.shared.0.lock().unwrap();
        state.closed = true;
        state.cut();
    }

    /// Cuts all connections; new ones are let through.
    pub fn cut(&self) {
        self.shared.0.lock().unwrap().cut();
    }

    /// Lets connections through again.
    pub fn open(&self) {
        self.shared.0.lock().unwrap().closed = false;
    }

    /// Holds back what the server answers.
    pub fn silence(&self, silent: bool) {
        self.shared.0.lock().unwrap().silent = silent;
        self.shared.1.notify_all();
    }
}

impl State {
    fn cut(&mut self) {
        for stream in self.streams.drain(..) {
            let _ = stream.shutdown(Shutdown::Both);
        }
    }
}

impl Drop for Gate {
    fn drop(&mut self) {
        let threads = {
            let mut state = self.shared.0.lock().unwrap();
            state.stop = true;
            state.cut();
            std::mem::take(&mut state.threads)
        };
        self.shared.1.notify_all();
        let _ = TcpStream::connect(("127.0.0.1", self.port));
        threads.into_iter().chain(self.acceptor.take()).for_each(|thread| drop(thread.join()));
    }
}

/// Copies until either side ends, then ends both.
fn copy(mut from: TcpStream, mut to: TcpStream, wait: impl Fn()) {
    let mut buffer = vec![0; 64 << 10];
    while let Ok(count) = from.read(&mut buffer)
        && count > 0
    {
        wait();
        if to.write_all(&buffer[..count]).is_err() {
            break;
        }
    }
    let _ = from.shutdown(Shutdown::Both);
    let _ = to.shutdown(Shutdown::Both);
}
