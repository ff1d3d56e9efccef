//! Texts that nobody may read: passwords, tokens, stream keys.
//!
//! In: what rooms learn of secrets when they read addresses and files. Out: [`scrub`], for every line of the log, whoever
//! wrote it. Rooms show redacted addresses anyway; this is for what they did not think of, and for the messages of
//! libraries. The one list of the process, as its log is one: a secret is one for everybody. Nothing fails.

use std::borrow::Cow;
use std::sync::{PoisonError, RwLock};

/// A shorter text would blot out half of every line, and guards nothing either.
const SHORTEST: usize = 4;

static SECRETS: RwLock<Vec<String>> = RwLock::new(Vec::new());

/// From now on no line of the log shows this text.
pub fn add(secret: &str) {
    if secret.chars().count() < SHORTEST {
        return;
    }
    let known = |secrets: &[String]| secrets.iter().any(|known| known == secret);
    if known(&SECRETS.read().unwrap_or_else(PoisonError::into_inner)) {
        return;
    }
    let mut secrets = SECRETS.write().unwrap_or_else(PoisonError::into_inner);
    if !known(&secrets) {
        secrets.push(secret.to_owned());
        // A secret that is part of another must not break that one up.
        secrets.sort_by_key(|secret| std::cmp::Reverse(secret.len()));
    }
}

/// A text without any of them.
#[must_use]
pub fn scrub(text: &str) -> Cow<'_, str> {
    let secrets = SECRETS.read().unwrap_or_else(PoisonError::into_inner);
    let mut clean = Cow::Borrowed(text);
    for secret in secrets.iter() {
        if clean.contains(secret.as_str()) {
            clean = Cow::Owned(clean.replace(secret.as_str(), "***"));
        }
    }
    clean
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn secrets_are_blotted_out_the_longest_first() {
        add("swordfish");
        add("swordfish-and-chips");
        add("ab");
        assert_eq!(scrub("rtsp://u:swordfish-and-chips@h, swordfish"), "rtsp://u:***@h, ***");
        assert!(matches!(scrub("about nothing"), Cow::Borrowed("about nothing")));
    }
}
