//! Who else in the daemon wants to know of events, beside the broker.
//!
//! In: functions that `app` adds at the start; events, from any thread. Out: calls, on the thread that says the event.
//! Owned by the publisher's shared part. Nothing fails; an observer must not block.

use std::sync::{Arc, PoisonError, RwLock};

use super::messages::EventRecord;

type Observer = Arc<dyn Fn(&EventRecord) + Send + Sync>;

/// The observers.
#[derive(Default)]
pub(super) struct Observers(RwLock<Vec<Observer>>);

impl Observers {
    pub fn add(&self, observer: impl Fn(&EventRecord) + Send + Sync + 'static) {
        self.0.write().unwrap_or_else(PoisonError::into_inner).push(Arc::new(observer));
    }

    pub fn tell(&self, record: &EventRecord) {
        for observer in self.0.read().unwrap_or_else(PoisonError::into_inner).iter() {
            observer(record);
        }
    }
}

impl std::fmt::Debug for Observers {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Observers")
    }
}
