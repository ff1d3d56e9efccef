//! The settings of the status page, the metrics and the health checks.
//!
//! In: configuration. Out: plain data with defaults, as everything in [`super`]. That an address beyond this machine
//! demands a token is checked in `validate`; the token's file is only read when it is used.

use std::net::SocketAddr;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

/// Health, metrics and the status page, over HTTP.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Http {
    /// `IP:PORT`, or `off`.
    pub listen: String,
    /// File that holds the token which clients must know; demanded beyond loopback.
    pub token_file: Option<PathBuf>,
}

impl Default for Http {
    fn default() -> Self {
        Self { listen: "127.0.0.1:8590".into(), token_file: None }
    }
}

impl Http {
    /// Where to listen; `None`: nowhere, or the address makes no sense, which `validate` refuses.
    #[must_use]
    pub fn address(&self) -> Option<SocketAddr> {
        self.listen.parse().ok()
    }

    /// What is wrong.
    pub(in crate::config) fn problem(&self) -> Option<String> {
        if self.listen == "off" {
            return None;
        }
        let Some(address) = self.address() else {
            return Some(format!(
                "\"{}\" is no address; expected IP:PORT, such as 127.0.0.1:8590, or \"off\"",
                self.listen
            ));
        };
        if !address.ip().is_loopback() && self.token_file.is_none() {
            return Some(format!(
                "{address} can be reached from other machines, which demands a token: put one of at least 16 characters \
                 into a file and name it in http.token_file, or listen on 127.0.0.1"
            ));
        }
        None
    }

    /// The page's address as a person may open it; `None` where it is off.
    #[must_use]
    pub fn url(&self) -> Option<String> {
        let address = self.address()?;
        // Listening on every address is no address to open.
        let host = if address.ip().is_unspecified() { "127.0.0.1".to_owned() } else { host(address) };
        Some(format!("http://{host}:{}/", address.port()))
    }
}

fn host(address: SocketAddr) -> String {
    match address {
        SocketAddr::V4(v4) => v4.ip().to_string(),
        SocketAddr::V6(v6) => format!("[{}]", v6.ip()),
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;
    use std::path::Path;

    use super::*;
    use crate::config::merge;

    fn read(text: &str) -> Result<Http, String> {
        merge(&[(Path::new("box.toml"), text.to_owned())], &HashMap::new())
            .map(|settings| settings.http)
            .map_err(|error| error.to_string())
    }

    #[test]
    fn addresses_beyond_this_machine_demand_a_token() {
        for listen in ["127.0.0.1:1", "[::1]:8590", "127.8.8.8:80", "off"] {
            assert!(read(&format!("http.listen = \"{listen}\"")).is_ok(), "{listen}");
        }
        for listen in ["0.0.0.0:8590", "[::]:8590", "192.168.1.4:8590"] {
            let error = read(&format!("\n[http]\nlisten = \"{listen}\"")).unwrap_err();
            assert!(error.contains("box.toml:3") && error.contains("http.listen"), "{error}");
            assert!(error.contains("token"), "{error}");
            assert!(read(&format!("http.listen = \"{listen}\"\nhttp.token_file = \"/x\"")).is_ok());
        }
        let error = read("http.listen = \"8590\"").unwrap_err();
        assert!(error.contains("IP:PORT") && error.contains("http.listen"), "{error}");
    }

    #[test]
    fn the_page_has_an_address_that_can_be_opened() {
        let url = |listen: &str| Http { listen: listen.into(), token_file: None }.url();
        assert_eq!(url("0.0.0.0:80").as_deref(), Some("http://127.0.0.1:80/"));
        assert_eq!(url("[::1]:81").as_deref(), Some("http://[::1]:81/"));
        assert_eq!(url("off"), None);
    }
}
