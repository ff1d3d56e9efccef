//! Ids for Home Assistant, made of names.
//!
//! In: names with any characters. Out: ids of letters, digits, `-` and `_`, which is all that a discovery topic may hold.
//! Different names give different ids, and ids joined of different parts differ, too. Nothing fails.

use std::fmt::Write;

/// A name's id: letters, digits and `-` stay, every other byte is `_` and two digits of hexadecimal.
fn slug(name: &str) -> String {
    name.bytes().fold(String::with_capacity(name.len()), |mut id, byte| {
        if byte.is_ascii_alphanumeric() || byte == b'-' {
            id.push(char::from(byte));
        } else {
            // Writing to a string does not fail.
            let _ = write!(id, "_{byte:02x}");
        }
        id
    })
}

/// The id of something with a name of several parts. A `_` within a part is never followed by another.
pub(super) fn id(parts: &[&str]) -> String {
    parts.iter().map(|part| slug(part)).collect::<Vec<_>>().join("__")
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn different_names_have_different_ids_that_a_topic_may_hold() {
        let names =
            ["a", "A", "a_b", "a-b", "a.b", "a b", "ab", "a__b", "_", "_5f", "Tür", "門", "a/b", "a_2fb", ""];
        let mut ids = BTreeSet::new();
        for one in names {
            for two in names {
                let id = id(&[one, two]);
                assert!(id.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '-' | '_')), "{id}");
                assert!(ids.insert(id.clone()), "{id} twice");
            }
        }
        assert_eq!(id(&["watchpost/gate-7", "entrance"]), "watchpost_2fgate-7__entrance");
    }
}
