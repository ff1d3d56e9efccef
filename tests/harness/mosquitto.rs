//! A real mosquitto with a configuration of its own on a free port, and a subscriber that collects.
//!
//! In: [`Options`]. Out: a broker that can be stopped, killed and started again on the same port; messages,
//! waited for by predicate. The broker's process and the subscriber's thread end when dropped. Failures
//! panic with what happened; they are failures of the test.

use crate::daemon::free_port;
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use rumqttc::{Client, Event, MqttOptions, Packet, QoS};
use serde_json::Value;

/// How long anything is waited for.
pub const PATIENCE: Duration = Duration::from_secs(30);

/// Waits until `condition`, or panics.
pub fn until(what: &str, mut condition: impl FnMut() -> bool) {
    let deadline = Instant::now() + PATIENCE;
    while !condition() {
        assert!(Instant::now() < deadline, "waited {PATIENCE:?} in vain until {what}");
        std::thread::park_timeout(Duration::from_millis(5));
    }
}

/// How the broker is set up.
#[derive(Debug, Default, Clone)]
pub struct Options {
    /// Only this user, with this password, is let in.
    pub user: Option<(&'static str, &'static str)>,
    /// A second listener speaks TLS, with a certificate for `localhost` of an authority made for the test.
    pub tls: bool,
}

/// A broker.
#[derive(Debug)]
pub struct Mosquitto {
    folder: tempfile::TempDir,
    port: u16,
    tls_port: u16,
    options: Options,
    child: Option<Child>,
}

impl Mosquitto {
    /// A broker that lets everybody in.
    #[must_use]
    pub fn start() -> Self {
        Self::with(Options::default())
    }

    /// A broker with options.
    #[must_use]
    pub fn with(options: Options) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let mut broker = Self { folder, port: free_port(), tls_port: free_port(), options, child: None };
        broker.configure();
        broker.restart();
        broker
    }

    fn configure(&self) {
        let folder = self.folder.path();
        let mut text = format!(
            "per_listener_settings false\npersistence false\nuser root\nset_tcp_nodelay true\n\
             max_queued_messages 100000\nmax_inflight_messages 0\nlistener {} 127.0.0.1\n",
            self.port
        );
        if self.options.tls {
            certificates(folder);
            let path = |name: &str| folder.join(name).display().to_string();
            text += &format!(
                "listener {} 127.0.0.1\ncafile {}\ncertfile {}\nkeyfile {}\n",
                self.tls_port,
                path("ca.crt"),
                path("server.crt"),
                path("server.key")
            );
        }
        match self.options.user {
            Some((user, password)) => {
                let file = folder.join("passwords");
                run(Command::new("mosquitto_passwd").args(["-b", "-c"]).arg(&file).args([user, password]));
                text += &format!("allow_anonymous false\npassword_file {}\n", file.display());
            }
            None => text += "allow_anonymous true\n",
        }
        std::fs::write(folder.join("mosquitto.conf"), text).unwrap();
    }

    /// Starts it again, after [`Mosquitto::stop`] or [`Mosquitto::kill`], on the same port.
    pub fn restart(&mut self) {
        assert!(self.child.is_none(), "the broker runs already");
        let log = std::fs::File::create(self.folder.path().join("log")).unwrap();
        let program =
            if Path::new("/usr/sbin/mosquitto").exists() { "/usr/sbin/mosquitto" } else { "mosquitto" };
        let child = Command::new(program)
            .arg("-c")
            .arg(self.folder.path().join("mosquitto.conf"))
            .stdout(Stdio::null())
            .stderr(log)
            .spawn()
            .expect("mosquitto is installed");
        let child = self.child.insert(child);
        let port = self.port;
        until("mosquitto listens", || {
            assert!(child.try_wait().unwrap().is_none(), "mosquitto ended at once");
            TcpStream::connect(("127.0.0.1", port)).is_ok()
        });
    }

    /// Ends it in an orderly way.
    pub fn stop(&mut self) {
        if let Some(mut child) = self.child.take() {
            let process = rustix::process::Pid::from_child(&child);
            rustix::process::kill_process(process, rustix::process::Signal::TERM).unwrap();
            child.wait().unwrap();
        }
    }

    /// `kill -9`.
    pub fn kill(&mut self) {
        if let Some(mut child) = self.child.take() {
            child.kill().unwrap();
            child.wait().unwrap();
        }
    }

    /// Its port.
    #[must_use]
    pub fn port(&self) -> u16 {
        self.port
    }

    /// Its address.
    #[must_use]
    pub fn url(&self) -> String {
        format!("mqtt://127.0.0.1:{}", self.port)
    }

    /// Its address with TLS.
    #[must_use]
    pub fn tls_url(&self) -> String {
        format!("mqtts://localhost:{}", self.tls_port)
    }

    /// The authority that signed its certificate.
    #[must_use]
    pub fn ca_file(&self) -> PathBuf {
        self.folder.path().join("ca.crt")
    }

    /// A subscriber to all of `filter`, connected and subscribed.
    #[must_use]
    pub fn subscribe(&self, filter: &str) -> Subscriber {
        Subscriber::new(self.port, filter, self.options.user)
    }
}

impl Drop for Mosquitto {
    fn drop(&mut self) {
        self.kill();
    }
}

fn run(command: &mut Command) {
    let output = command.output().unwrap_or_else(|error| panic!("{command:?}: {error}"));
    assert!(output.status.success(), "{command:?}: {}", String::from_utf8_lossy(&output.stderr));
}

/// An authority and a certificate for `localhost` signed by it.
fn certificates(folder: &Path) {
    let openssl =
        |arguments: &str| run(Command::new("openssl").args(arguments.split(' ')).current_dir(folder));
    let key = "-newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes";
    std::fs::write(folder.join("names"), "subjectAltName=DNS:localhost\n").unwrap();
    openssl(&format!("req -x509 {key} -keyout ca.key -out ca.crt -subj /CN=authority -days 2"));
    openssl(&format!("req {key} -keyout server.key -out server.csr -subj /CN=localhost"));
    openssl(
        "x509 -req -in server.csr -CA ca.crt -CAkey ca.key -CAcreateserial -out server.crt -days 2 -extfile names",
    );
}

/// A message that arrived.
#[derive(Debug, Clone)]
pub struct Message {
    /// Topic.
    pub topic: String,
    /// Payload.
    pub payload: Vec<u8>,
    /// Whether the broker had kept it.
    pub retained: bool,
}

impl Message {
    /// The payload as JSON.
    #[must_use]
    pub fn json(&self) -> Value {
        serde_json::from_slice(&self.payload).unwrap_or_else(|error| {
            panic!("{}: {error}: {}", self.topic, String::from_utf8_lossy(&self.payload))
        })
    }
}

#[derive(Debug, Default)]
struct Collected {
    messages: Vec<Message>,
    subscribed: u64,
    stop: bool,
}

/// A test that fails while it holds the lock must not take the clean-up with it.
fn lock(collected: &Mutex<Collected>) -> MutexGuard<'_, Collected> {
    collected.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Collects messages on a thread of its own; connects again when the broker comes back.
pub struct Subscriber {
    client: Client,
    collected: Arc<(Mutex<Collected>, Condvar)>,
    thread: Option<JoinHandle<()>>,
}

impl Subscriber {
    /// Connects to a broker on this machine, with QoS 1, and waits until it is subscribed.
    #[must_use]
    pub fn new(port: u16, filter: &str, user: Option<(&str, &str)>) -> Self {
        let mut options = MqttOptions::new(format!("test-{}", free_port()), "127.0.0.1", port);
        options.set_keep_alive(Duration::from_secs(5)).set_max_packet_size(64 << 20, 64 << 20);
        if let Some((user, password)) = user {
            options.set_credentials(user, password);
        }
        let (client, mut connection) = Client::new(options, 100);
        let collected = Arc::new((Mutex::new(Collected::default()), Condvar::new()));
        let (shared, again, filter) = (Arc::clone(&collected), client.clone(), filter.to_owned());
        let thread = std::thread::spawn(move || {
            for event in connection.iter() {
                let mut collected = lock(&shared.0);
                match event {
                    Ok(Event::Incoming(Packet::ConnAck(_))) => {
                        again.try_subscribe(&filter, QoS::AtLeastOnce).unwrap();
                    }
                    Ok(Event::Incoming(Packet::SubAck(_))) => collected.subscribed += 1,
                    Ok(Event::Incoming(Packet::Publish(publish))) => collected.messages.push(Message {
                        topic: publish.topic,
                        payload: publish.payload.to_vec(),
                        retained: publish.retain,
                    }),
                    Ok(_) => continue,
                    Err(_) if collected.stop => return,
                    // The broker is away; a short pause, unless the end comes first.
                    Err(_) => drop(shared.1.wait_timeout(collected, Duration::from_millis(20))),
                }
                shared.1.notify_all();
            }
        });
        let subscriber = Self { client, collected, thread: Some(thread) };
        subscriber.subscribed(1);
        subscriber
    }

    /// Waits until it has subscribed so many times, once for each connection.
    pub fn subscribed(&self, times: u64) {
        self.wait_state("subscribed", |collected| collected.subscribed >= times);
    }

    /// Waits until the messages so far satisfy `condition`, and returns them.
    pub fn wait(&self, what: &str, condition: impl Fn(&[Message]) -> bool) -> Vec<Message> {
        self.wait_state(what, |collected| condition(&collected.messages))
    }

    /// Waits for a message on a topic whose payload satisfies `condition`, and returns its payload.
    pub fn wait_for(&self, topic: &str, condition: impl Fn(&Value) -> bool) -> Value {
        let fits = |message: &&Message| {
            message.topic == topic && !message.payload.is_empty() && condition(&message.json())
        };
        let messages = self.wait(topic, |messages| messages.iter().any(|message| fits(&message)));
        messages.iter().rev().find(fits).unwrap().json()
    }

    fn wait_state(&self, what: &str, condition: impl Fn(&Collected) -> bool) -> Vec<Message> {
        let deadline = Instant::now() + PATIENCE;
        let mut collected = lock(&self.collected.0);
        while !condition(&collected) {
            let rest = deadline.saturating_duration_since(Instant::now());
            if rest.is_zero() {
                let got: Vec<_> = collected.messages.iter().map(|message| message.topic.as_str()).collect();
                let (count, last) = (got.len(), &got[got.len().saturating_sub(20)..]);
                panic!("waited {PATIENCE:?} in vain for {what}; {count} messages, the last: {last:?}");
            }
            collected =
                self.collected.1.wait_timeout(collected, rest).unwrap_or_else(PoisonError::into_inner).0;
        }
        collected.messages.clone()
    }

    /// The messages so far.
    #[must_use]
    pub fn messages(&self) -> Vec<Message> {
        lock(&self.collected.0).messages.clone()
    }

    /// Forgets the messages so far.
    pub fn clear(&self) {
        lock(&self.collected.0).messages.clear();
    }

    /// Publishes, QoS 1.
    pub fn publish(&self, topic: &str, retain: bool, payload: &str) {
        self.client.publish(topic, QoS::AtLeastOnce, retain, payload.as_bytes()).unwrap();
    }
}

impl Drop for Subscriber {
    fn drop(&mut self) {
        lock(&self.collected.0).stop = true;
        self.collected.1.notify_all();
        let _ = self.client.try_disconnect();
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}
