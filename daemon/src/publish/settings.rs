//! Where to connect and how: the `mqtt` part of the configuration, checked.
//!
//! In: [`Mqtt`], the box's name, the state folder. Out: [`PublishSettings`], and from it rumqttc's options
//! for one connection, with password and certificates read at that moment so that they can be changed
//! without a restart. Errors name the key and what to do; no error and no log line holds a password.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use rumqttc::{LastWill, MqttOptions, QoS, TlsConfiguration, Transport};
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use rustls::{ClientConfig, RootCertStore};

use super::{Error, Topics};
use crate::config::settings::Mqtt;

/// Bytes of an incoming packet; commands are small.
const INCOMING: usize = 1 << 20;
/// Bytes of an outgoing packet; the outbox takes no larger message.
const OUTGOING: usize = 65 << 20;
/// QoS 1 messages under way in rumqttc at most; the connection keeps below it.
const IN_FLIGHT: u16 = 100;

/// Where messages go.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Destination {
    /// Nowhere.
    Off,
    /// To a broker that the daemon runs itself.
    Embedded(SocketAddr),
    /// To a broker.
    Broker {
        /// Name or address.
        host: String,
        /// Port.
        port: u16,
        /// Whether TLS is spoken.
        tls: bool,
    },
}

/// What the publisher needs to know.
#[derive(Debug, Clone, PartialEq)]
pub struct PublishSettings {
    /// Name of the box.
    pub box_: Arc<str>,
    /// Topics of this box.
    pub topics: Topics,
    /// Where messages go.
    pub destination: Destination,
    /// User name.
    pub username: Option<String>,
    /// File with the password.
    pub password_file: Option<PathBuf>,
    /// PEM file of the authority that signed the broker's certificate.
    pub ca_file: Option<PathBuf>,
    /// Time between pings.
    pub keep_alive: Duration,
    /// Object messages a second and stream.
    pub objects_rate: f64,
    /// Time between telemetry messages; zero: none.
    pub telemetry_interval: Duration,
    /// Bytes of the outbox on disk.
    pub outbox_bytes: u64,
    /// The state folder.
    pub state: PathBuf,
    /// First and longest pause between attempts to connect.
    pub backoff: (Duration, Duration),
    /// The program that has the embedded broker; default: this one.
    pub broker_program: Option<PathBuf>,
    client_id: String,
}

impl PublishSettings {
    /// Checks the `mqtt` part of the configuration.
    ///
    /// # Errors
    /// Where the address cannot be used, or the password has no user.
    pub fn new(mqtt: &Mqtt, box_: &str, state: &Path) -> Result<Self, Error> {
        let destination = destination(&mqtt.url, &mqtt.listen)?;
        if mqtt.password_file.is_some() && mqtt.username.is_none() {
            return Err(Error::NoUser);
        }
        Ok(Self {
            box_: box_.into(),
            topics: Topics::new(&mqtt.prefix, box_),
            destination,
            username: mqtt.username.clone(),
            password_file: mqtt.password_file.clone(),
            ca_file: mqtt.ca_file.clone(),
            keep_alive: Duration::from_secs(mqtt.keep_alive.into()),
            objects_rate: mqtt.objects_rate,
            telemetry_interval: Duration::from_secs(mqtt.telemetry_interval),
            outbox_bytes: mqtt.outbox_bytes,
            state: state.to_owned(),
            backoff: (Duration::from_millis(250), Duration::from_secs(30)),
            broker_program: None,
            client_id: format!("{}-{box_}", mqtt.prefix.replace('/', "-")),
        })
    }

    /// The broker's address as it may be shown.
    #[must_use]
    pub fn address(&self) -> String {
        match &self.destination {
            Destination::Off => "off".into(),
            Destination::Embedded(listen) => format!("mqtt://{listen}"),
            Destination::Broker { host, port, tls } => {
                format!("{}://{host}:{port}", if *tls { "mqtts" } else { "mqtt" })
            }
        }
    }

    /// Whether the files that the settings name can be used as they are now.
    ///
    /// # Errors
    /// Where one cannot be read, or holds no certificate.
    pub fn check_files(&self) -> Result<(), Error> {
        self.login(&self.client_id).map(drop)
    }

    /// rumqttc's options for one connection; reads the files.
    ///
    /// # Errors
    /// Where a file cannot be read or holds no certificate.
    pub(super) fn options(&self, will: Vec<u8>) -> Result<MqttOptions, Error> {
        let mut options = self.login(&self.client_id)?;
        options.set_last_will(LastWill::new(self.topics.status(), will, QoS::AtLeastOnce, true));
        Ok(options)
    }

    /// Address, credentials and certificates under a client's id, without a last will.
    fn login(&self, client_id: &str) -> Result<MqttOptions, Error> {
        let (host, port, tls) = match &self.destination {
            Destination::Broker { host, port, tls } => (host.clone(), *port, *tls),
            Destination::Embedded(listen) => (listen.ip().to_string(), listen.port(), false),
            Destination::Off => (String::new(), 0, false),
        };
        let mut options = MqttOptions::new(client_id, host, port);
        options
            .set_keep_alive(self.keep_alive)
            .set_clean_session(true)
            .set_max_packet_size(INCOMING, OUTGOING)
            .set_inflight(IN_FLIGHT);
        if let Some(user) = &self.username {
            let password = match &self.password_file {
                Some(path) => {
                    let text =
                        std::fs::read_to_string(path).map_err(|e| file("mqtt.password_file", path, &e))?;
                    let password = text.trim_end_matches(['\r', '\n']).to_owned();
                    crate::telemetry::secrets::add(&password);
                    password
                }
                None => String::new(),
            };
            options.set_credentials(user, password);
        }
        if tls {
            let config = self.tls()?;
            options.set_transport(Transport::tls_with_config(TlsConfiguration::Rustls(Arc::new(config))));
        }
        Ok(options)
    }

    /// Logs in to the broker and out again, under a name of its own: a running daemon keeps its connection.
    ///
    /// # Errors
    /// What the broker or the network answers, or that nothing came within `patience`.
    pub fn try_login(&self, patience: Duration) -> Result<(), String> {
        let id = format!("{}-doctor-{}", self.client_id, std::process::id());
        let options = self.login(&id).map_err(|error| error.to_string())?;
        let (client, mut connection) = rumqttc::Client::new(options, 4);
        let until = std::time::Instant::now() + patience;
        loop {
            let left = until.saturating_duration_since(std::time::Instant::now());
            match connection.recv_timeout(left) {
                Ok(Ok(rumqttc::Event::Incoming(rumqttc::Packet::ConnAck(_)))) => break,
                Ok(Ok(_)) => {}
                Ok(Err(error)) => return Err(error.to_string()),
                Err(_) => return Err(format!("no answer within {} s", patience.as_secs())),
            }
        }
        // The broker closes the connection where this is lost.
        let _ = client.disconnect();
        let _ = connection.recv_timeout(Duration::from_millis(200));
        Ok(())
    }

    fn tls(&self) -> Result<ClientConfig, Error> {
        let mut roots = RootCertStore::empty();
        if let Some(path) = &self.ca_file {
            let problem = |error: &dyn std::fmt::Display| file("mqtt.ca_file", path, error);
            for certificate in CertificateDer::pem_file_iter(path).map_err(|e| problem(&e))? {
                roots.add(certificate.map_err(|e| problem(&e))?).map_err(|e| problem(&e))?;
            }
            if roots.is_empty() {
                return Err(problem(&"holds no certificate in PEM"));
            }
        } else {
            roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
            if roots.is_empty() {
                let what =
                    "the system has no certificate authorities; install ca-certificates or set mqtt.ca_file";
                return Err(Error::Tls(what.into()));
            }
        }
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let builder = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .map_err(|error| Error::Tls(error.to_string()))?;
        Ok(builder.with_root_certificates(roots).with_no_client_auth())
    }
}

fn file(key: &'static str, path: &Path, problem: &dyn std::fmt::Display) -> Error {
    Error::File { key, path: path.to_owned(), problem: problem.to_string() }
}

fn destination(url: &str, listen: &str) -> Result<Destination, Error> {
    let wrong = |problem: &str| {
        let shown = match url.rsplit_once('@') {
            Some((_, host)) => format!("...@{host}"),
            None => url.to_owned(),
        };
        Error::Url { url: shown, problem: problem.to_owned() }
    };
    match url {
        "off" => return Ok(Destination::Off),
        "embedded" => {
            return listen.parse().map(Destination::Embedded).map_err(|_| Error::Listen(listen.to_owned()));
        }
        _ => {}
    }
    let (scheme, rest) = url.split_once("://").ok_or_else(|| wrong("it has no scheme"))?;
    let (tls, default_port) = match scheme {
        "mqtt" | "tcp" => (false, 1883),
        "mqtts" | "ssl" => (true, 8883),
        _ => return Err(wrong("this scheme is not known")),
    };
    let rest = rest.trim_end_matches('/');
    if rest.contains('@') {
        return Err(wrong(
            "put the user into mqtt.username and the password into the file mqtt.password_file",
        ));
    }
    if rest.contains(['/', '?', '#']) {
        return Err(wrong("a broker's address has no path"));
    }
    // The colons of an IPv6 address are within brackets.
    let (host, port) = match rest.rsplit_once(':') {
        Some((host, port)) if !port.contains(']') => {
            let port = port
                .parse()
                .ok()
                .filter(|port| *port > 0)
                .ok_or_else(|| wrong("the port is no number from 1 to 65535"))?;
            (host, port)
        }
        _ => (rest, default_port),
    };
    if host.is_empty() {
        return Err(wrong("it has no host"));
    }
    if tls && host.starts_with('[') {
        return Err(wrong("a TLS certificate is checked against a name; use the broker's name"));
    }
    Ok(Destination::Broker { host: host.to_owned(), port, tls })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn settings(mqtt: Mqtt) -> Result<PublishSettings, Error> {
        PublishSettings::new(&mqtt, "gate-7", Path::new("/nonexistent"))
    }

    #[test]
    fn addresses_are_read() {
        let address = |url: &str| settings(Mqtt { url: url.into(), ..Mqtt::default() }).unwrap().address();
        assert_eq!(address("mqtt://broker"), "mqtt://broker:1883");
        assert_eq!(address("mqtts://broker/"), "mqtts://broker:8883");
        assert_eq!(address("mqtt://[::1]:77"), "mqtt://[::1]:77");
        assert_eq!(address("embedded"), "mqtt://127.0.0.1:1883");
        assert_eq!(address("off"), "off");
    }

    #[test]
    fn wrong_addresses_say_what_to_do_and_hide_passwords() {
        for (url, hint) in [
            ("broker:1883", "no scheme"),
            ("http://broker", "not known"),
            ("mqtt://:1883", "no host"),
            ("mqtt://broker:0", "1 to 65535"),
            ("mqtt://user:hunter2@broker", "password_file"),
            ("mqtt://broker/topic", "no path"),
        ] {
            let error = settings(Mqtt { url: url.into(), ..Mqtt::default() }).unwrap_err().to_string();
            assert!(error.contains(hint) && !error.contains("hunter2"), "{url}: {error}");
        }
        let listen = Mqtt { url: "embedded".into(), listen: "1883".into(), ..Mqtt::default() };
        assert!(settings(listen).unwrap_err().to_string().contains("mqtt.listen"));
        let password = Mqtt { password_file: Some("x".into()), ..Mqtt::default() };
        assert!(matches!(settings(password), Err(Error::NoUser)));
    }

    #[test]
    fn missing_files_are_named() {
        let mqtt =
            Mqtt { username: Some("u".into()), password_file: Some("/no/such".into()), ..Mqtt::default() };
        let error = settings(mqtt).unwrap().options(Vec::new()).err().unwrap().to_string();
        assert!(error.contains("mqtt.password_file = /no/such"), "{error}");
        let mqtt = Mqtt { url: "mqtts://b".into(), ca_file: Some("/no/such".into()), ..Mqtt::default() };
        let error = settings(mqtt).unwrap().options(Vec::new()).err().unwrap().to_string();
        assert!(error.contains("mqtt.ca_file = /no/such"), "{error}");
    }
}
