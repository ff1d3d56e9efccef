//! systemd's credentials in the configuration: secrets that the unit hands over (`LoadCredential=`), named where they
//! are used.
//!
//! In: the merged configuration, before it is read, and the folder with the credentials ($CREDENTIALS_DIRECTORY). Out:
//! the same with the file's path for `credential:NAME` in a key that ends in `_file`, and the credential itself for
//! `${credential:NAME}` in an address (`streams.NAME.source`, `streams.NAME.outputs.OUTPUT.to`), written so that it may
//! stand in one. What cannot be resolved is a problem that names the key and the line for the unit; a command that is not
//! the service has no credentials, and leaves them as they are. No message holds a credential.

use std::path::{Path, PathBuf};

use serde_json::Value;

use crate::telemetry::secrets;

const FILE: &str = "credential:";
const BEGIN: &str = "${credential:";

/// What came of it: (dotted key, message).
#[derive(Debug, Default)]
pub(super) struct Resolved {
    /// Wrong wherever it is read.
    pub(super) wrong: Vec<(String, String)>,
    /// Not to be had here, and so left as it is.
    pub(super) missing: Vec<(String, String)>,
}

/// Puts credentials into a configuration. `folder`: where they are, in the service.
pub(super) fn resolve(value: &mut Value, folder: Option<&Path>) -> Resolved {
    let mut resolved = Resolved::default();
    walk(value, &mut Vec::new(), folder, &mut resolved);
    resolved
}

fn walk(value: &mut Value, path: &mut Vec<String>, folder: Option<&Path>, resolved: &mut Resolved) {
    match value {
        Value::Object(table) => {
            for (name, inner) in table {
                path.push(name.clone());
                walk(inner, path, folder, resolved);
                path.pop();
            }
        }
        Value::String(text) => match replaced(text, path, folder) {
            Ok(Some(new)) => *text = new,
            Ok(None) => {}
            Err(Trouble::Wrong(message)) => resolved.wrong.push((path.join("."), message)),
            Err(Trouble::Missing(message)) => resolved.missing.push((path.join("."), message)),
        },
        // Nothing in a list may hold one.
        _ => {}
    }
}

enum Trouble {
    Wrong(String),
    Missing(String),
}

/// The text with its credentials; `None` where it names none.
fn replaced(text: &str, path: &[String], folder: Option<&Path>) -> Result<Option<String>, Trouble> {
    let key: Vec<&str> = path.iter().map(String::as_str).collect();
    if let Some(name) =
        text.strip_prefix(FILE).filter(|_| key.last().is_some_and(|key| key.ends_with("_file")))
    {
        read(name, folder)?;
        return Ok(folder.map(|folder| place(folder, name).display().to_string()));
    }
    if !text.contains(BEGIN) {
        return Ok(None);
    }
    if !matches!(key[..], ["streams", _, "source"] | ["streams", _, "outputs", _, "to"]) {
        return Err(Trouble::Wrong(
            "a credential cannot stand here; it can in streams.NAME.source and streams.NAME.outputs.OUTPUT.to, and as credential:NAME in mqtt.password_file".into(),
        ));
    }
    let mut new = String::new();
    let mut rest = text;
    while let Some((before, after)) = rest.split_once(BEGIN) {
        let Some((name, after)) = after.split_once('}') else {
            return Err(Trouble::Wrong("${credential:NAME} has no closing brace".into()));
        };
        new.push_str(before);
        let secret = read(name, folder)?;
        let encoded = encode(&secret);
        secrets::add(&encoded);
        new.push_str(&encoded);
        rest = after;
    }
    new.push_str(rest);
    Ok(Some(new))
}

/// A credential's bytes, without the end of its last line.
fn read(name: &str, folder: Option<&Path>) -> Result<Vec<u8>, Trouble> {
    let fit = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
    if name.is_empty() || name.len() > 255 || name.starts_with('.') || !name.chars().all(fit) {
        return Err(Trouble::Wrong(format!(
            "\"{name}\" is no name of a credential; expected letters, digits, '-', '_' and '.'"
        )));
    }
    let advice = format!(
        "put it into /etc/watchpost/credentials/{name}, or add LoadCredential={name}:/PATH/OF/THE/FILE below [Service] with \
         `systemctl edit watchpost`, then restart"
    );
    let Some(folder) = folder else {
        return Err(Trouble::Missing(format!(
            "credential \"{name}\" is not here: only the service is given credentials; {advice}"
        )));
    };
    let mut secret = std::fs::read(place(folder, name)).map_err(|error| {
        Trouble::Wrong(match error.kind() {
            std::io::ErrorKind::NotFound => format!("there is no credential \"{name}\"; {advice}"),
            _ => format!("credential \"{name}\" cannot be read: {error}"),
        })
    })?;
    while matches!(secret.last(), Some(b'\n' | b'\r')) {
        secret.pop();
    }
    if secret.is_empty() {
        return Err(Trouble::Wrong(format!("credential \"{name}\" is empty")));
    }
    secrets::add(&String::from_utf8_lossy(&secret));
    Ok(secret)
}

/// Where a credential is: under its own name where a drop-in of the unit hands it over, else under the name that systemd gives
/// to the files of a folder (`LoadCredential=watchpost:/etc/watchpost/credentials`; systemd.exec(5)).
fn place(folder: &Path, name: &str) -> PathBuf {
    let own = folder.join(name);
    if own.exists() { own } else { folder.join(format!("watchpost_{name}")) }
}

/// As it may stand anywhere in an address: everything but letters, digits and `-._~` as %XX.
fn encode(bytes: &[u8]) -> String {
    use std::fmt::Write;
    bytes.iter().fold(String::new(), |mut text, byte| {
        if byte.is_ascii_alphanumeric() || b"-._~".contains(byte) {
            text.push(char::from(*byte));
        } else {
            // Writing to a string does not fail.
            let _ = write!(text, "%{byte:02X}");
        }
        text
    })
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn folder() -> tempfile::TempDir {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("cam3"), "p@ss/w:ord é\n").unwrap();
        std::fs::write(folder.path().join("mqtt-password"), "hunter22\n").unwrap();
        std::fs::write(folder.path().join("empty"), "\n").unwrap();
        folder
    }

    fn configured(source: &str) -> Value {
        json!({ "mqtt": { "password_file": "credential:mqtt-password" },
            "streams": { "a": { "source": source, "outputs": { "live": { "to": "rtmp://h/app/${credential:mqtt-password}" } } } } })
    }

    #[test]
    fn credentials_come_into_addresses_and_files() {
        let folder = folder();
        let mut value = configured("rtsp://user:${credential:cam3}@h/x?token=${credential:mqtt-password}");
        let resolved = resolve(&mut value, Some(folder.path()));
        assert!(resolved.wrong.is_empty() && resolved.missing.is_empty(), "{resolved:?}");
        let stream = &value["streams"]["a"];
        assert_eq!(stream["source"], "rtsp://user:p%40ss%2Fw%3Aord%20%C3%A9@h/x?token=hunter22");
        assert_eq!(stream["outputs"]["live"]["to"], "rtmp://h/app/hunter22");
        let path = folder.path().join("mqtt-password");
        assert_eq!(value["mqtt"]["password_file"], path.display().to_string());
        // As systemd names the files of a folder.
        std::fs::rename(&path, folder.path().join("watchpost_mqtt-password")).unwrap();
        let mut value = configured("rtsp://h/x?token=${credential:mqtt-password}");
        assert!(resolve(&mut value, Some(folder.path())).wrong.is_empty());
        let path = folder.path().join("watchpost_mqtt-password");
        assert_eq!(value["mqtt"]["password_file"], path.display().to_string());
        assert_eq!(value["streams"]["a"]["source"], "rtsp://h/x?token=hunter22");
        assert_eq!(secrets::scrub("it is p@ss/w:ord é or p%40ss%2Fw%3Aord%20%C3%A9"), "it is *** or ***");
    }

    #[test]
    fn what_is_missing_is_named_with_the_line_to_add() {
        let folder = folder();
        for (source, hint) in [
            (
                "rtsp://u:${credential:cam4}@h/",
                "there is no credential \"cam4\"; put it into /etc/watchpost/credentials/cam4, or add LoadCredential=cam4:/",
            ),
            ("rtsp://u:${credential:empty}@h/", "\"empty\" is empty"),
            ("rtsp://u:${credential:../x}@h/", "no name of a credential"),
            ("rtsp://u:${credential:cam3@h/", "closing brace"),
        ] {
            let resolved = resolve(&mut configured(source), Some(folder.path()));
            let [(key, message)] = &resolved.wrong[..] else { panic!("{source}: {resolved:?}") };
            assert_eq!(key, "streams.a.source");
            assert!(message.contains(hint), "{message}");
        }
        let mut value =
            json!({ "box": { "name": "${credential:cam3}" }, "mqtt": { "password_file": "credential:x" } });
        let resolved = resolve(&mut value, Some(folder.path()));
        let keys: Vec<_> = resolved.wrong.iter().map(|(key, _)| key.as_str()).collect();
        assert_eq!(keys, ["box.name", "mqtt.password_file"]);
    }

    #[test]
    fn outside_the_service_they_stay_as_they_are() {
        let source = "rtsp://user:${credential:cam3}@h/x";
        let mut value = configured(source);
        let resolved = resolve(&mut value, None);
        assert_eq!((resolved.wrong.len(), resolved.missing.len()), (0, 3));
        assert_eq!(value, configured(source));
        assert!(resolved.missing[0].1.contains("only the service"), "{resolved:?}");
    }
}
