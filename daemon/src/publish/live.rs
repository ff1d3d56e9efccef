//! Messages that live in memory only: retained ones, answers, and those that may be lost.
//!
//! In: topics and payloads from any thread. Out: the next one to send, for the connection. Retained messages
//! are kept, so that they can be published again after a reconnect; one that did not change is not sent
//! again. One that is removed is kept, empty, until the broker has acknowledged it. Answers and fleeting messages are in bounded queues whose oldest are dropped and counted.

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Mutex, MutexGuard, PoisonError};

use tokio::sync::Notify;

use crate::telemetry::{Counter, Gauge};

/// Answers that wait at most.
const ANSWERS: usize = 256;
/// Fleeting messages that wait at most, and their bytes.
const FLEETING: usize = 512;
const FLEETING_BYTES: usize = 4 << 20;

/// A message: topic and payload.
pub(super) type Message = (String, Vec<u8>);

#[derive(Debug)]
pub(super) struct Live {
    queues: Mutex<Queues>,
    /// Something may be there to send.
    pub ready: Notify,
    dropped: Counter,
    /// Answers and fleeting messages that wait.
    waiting: Gauge,
}

#[derive(Debug, Default)]
struct Queues {
    /// By topic: the payload, empty to clear it, and whether it must be sent.
    retained: BTreeMap<String, (Vec<u8>, bool)>,
    /// Retained too, and sent once: what is large is not worth a second try.
    pictures: BTreeMap<String, (Vec<u8>, bool)>,
    answers: VecDeque<Message>,
    fleeting: VecDeque<Message>,
    fleeting_bytes: usize,
    /// The broker may not have acknowledged every retained message.
    unconfirmed: bool,
    /// The box goes elsewhere: nothing new is said here.
    left: bool,
}

impl Live {
    pub fn new(dropped: Counter, waiting: Gauge) -> Self {
        Self { queues: Mutex::default(), ready: Notify::new(), dropped, waiting }
    }

    fn lock(&self) -> MutexGuard<'_, Queues> {
        self.queues.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Publishes a retained message, unless it is what was published last.
    pub fn retain(&self, topic: String, payload: Vec<u8>) {
        let mut queues = self.lock();
        if queues.left || queues.retained.get(&topic).is_some_and(|(last, _)| *last == payload) {
            return;
        }
        queues.retained.insert(topic, (payload, true));
        queues.unconfirmed = true;
        drop(queues);
        self.ready.notify_one();
    }

    /// Publishes a picture, retained; one that waits is replaced.
    pub fn picture(&self, topic: String, payload: Vec<u8>) {
        let mut queues = self.lock();
        if queues.left {
            return;
        }
        queues.pictures.insert(topic, (payload, true));
        drop(queues);
        self.ready.notify_one();
    }

    /// Removes a retained message from the broker, also one that this life has not published.
    pub fn erase(&self, topic: String) {
        self.retain(topic, Vec::new());
    }

    /// Publishes a retained message again: somebody asks for it.
    pub fn repeat(&self, topic: &str) {
        let mut queues = self.lock();
        if let Some((_, due)) = queues.retained.get_mut(topic) {
            *due = true;
            queues.unconfirmed = true;
        }
        drop(queues);
        self.ready.notify_one();
    }

    /// Every message that was handed out is acknowledged.
    pub fn confirm(&self) {
        let mut queues = self.lock();
        queues.unconfirmed = queues.retained.values().any(|(_, due)| *due);
        queues.retained.retain(|_, (payload, due)| *due || !payload.is_empty());
    }

    /// Whether the broker has acknowledged every retained message, and every removal.
    pub fn is_confirmed(&self) -> bool {
        !self.lock().unconfirmed
    }

    /// Removes retained messages whose topic begins with `prefix` from the broker.
    pub fn clear(&self, prefix: &str) {
        let mut queues = self.lock();
        let Queues { retained, pictures, .. } = &mut *queues;
        for kind in [retained, pictures] {
            let below = kind.range_mut(prefix.to_owned()..);
            for (_, message) in below.take_while(|(topic, _)| topic.starts_with(prefix)) {
                *message = (Vec::new(), true);
            }
        }
        queues.unconfirmed = true;
        drop(queues);
        self.ready.notify_one();
    }

    /// The box goes elsewhere: every retained message is removed from the broker but the one on `status`, which is
    /// somebody else's to say, and what may be lost is.
    pub fn leave(&self, status: &str) {
        let mut queues = self.lock();
        queues.left = true;
        queues.retained.remove(status);
        let pictures = std::mem::take(&mut queues.pictures);
        queues.retained.extend(pictures.into_keys().map(|topic| (topic, (Vec::new(), true))));
        queues.retained.values_mut().for_each(|message| *message = (Vec::new(), true));
        self.dropped.add(queues.fleeting.len() as u64);
        queues.fleeting.clear();
        queues.fleeting_bytes = 0;
        drop(queues);
        self.ready.notify_one();
    }

    pub fn answer(&self, topic: String, payload: Vec<u8>) {
        let mut queues = self.lock();
        queues.answers.push_back((topic, payload));
        if queues.answers.len() > ANSWERS {
            queues.answers.pop_front();
            self.dropped.inc();
        }
        self.show(&queues);
        drop(queues);
        self.ready.notify_one();
    }

    fn show(&self, queues: &Queues) {
        self.waiting.set((queues.answers.len() + queues.fleeting.len()) as f64);
    }

    pub fn fleeting(&self, topic: String, payload: Vec<u8>) {
        let mut queues = self.lock();
        if queues.left {
            self.dropped.inc();
            return;
        }
        queues.fleeting_bytes += payload.len();
        queues.fleeting.push_back((topic, payload));
        while (queues.fleeting.len() > FLEETING || queues.fleeting_bytes > FLEETING_BYTES)
            && let Some((_, oldest)) = queues.fleeting.pop_front()
        {
            queues.fleeting_bytes -= oldest.len();
            self.dropped.inc();
        }
        self.show(&queues);
        drop(queues);
        self.ready.notify_one();
    }

    pub fn next_answer(&self) -> Option<Message> {
        let mut queues = self.lock();
        let message = queues.answers.pop_front();
        self.show(&queues);
        message
    }

    pub fn next_retained(&self) -> Option<Message> {
        let mut queues = self.lock();
        let (topic, message) = queues.retained.iter_mut().find(|(_, (_, due))| *due)?;
        message.1 = false;
        Some((topic.clone(), message.0.clone()))
    }

    pub fn next_picture(&self) -> Option<Message> {
        let mut queues = self.lock();
        let (topic, message) = queues.pictures.iter_mut().find(|(_, (_, due))| *due)?;
        message.1 = false;
        let found = (topic.clone(), message.0.clone());
        // One that clears its topic is forgotten then.
        if found.1.is_empty() {
            queues.pictures.remove(&found.0);
        }
        Some(found)
    }

    pub fn next_fleeting(&self) -> Option<Message> {
        let mut queues = self.lock();
        let message = queues.fleeting.pop_front()?;
        queues.fleeting_bytes -= message.1.len();
        self.show(&queues);
        Some(message)
    }

    /// The connection is gone: fleeting messages are stale, retained ones are all due again.
    pub fn disconnected(&self) {
        let mut queues = self.lock();
        self.dropped.add(queues.fleeting.len() as u64);
        queues.fleeting.clear();
        queues.fleeting_bytes = 0;
        self.show(&queues);
        let Queues { retained, pictures, .. } = &mut *queues;
        retained.values_mut().chain(pictures.values_mut()).for_each(|(_, due)| *due = true);
        queues.unconfirmed = !queues.retained.is_empty();
    }

    /// Whether everything but fleeting messages was handed out.
    pub fn is_drained(&self) -> bool {
        let queues = self.lock();
        queues.answers.is_empty() && queues.retained.values().all(|(_, due)| !due)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(message: Option<Message>) -> Option<(String, String)> {
        message.map(|(topic, payload)| (topic, String::from_utf8(payload).unwrap()))
    }

    fn pair(topic: &str, payload: &str) -> Option<(String, String)> {
        Some((topic.into(), payload.into()))
    }

    #[test]
    fn unchanged_retained_messages_are_sent_once_and_again_after_a_reconnect() {
        let live = Live::new(Counter::new(), Gauge::new());
        live.retain("a/x".into(), b"1".to_vec());
        live.retain("a/x".into(), b"1".to_vec());
        assert_eq!(text(live.next_retained()), pair("a/x", "1"));
        live.retain("a/x".into(), b"1".to_vec());
        assert!(live.next_retained().is_none() && live.is_drained());
        live.disconnected();
        assert_eq!(text(live.next_retained()), pair("a/x", "1"));
        live.retain("ab".into(), b"2".to_vec());
        live.next_retained();
        live.clear("a/");
        assert_eq!(text(live.next_retained()), pair("a/x", ""));
        assert!(!live.is_confirmed());
        // It may not have arrived.
        live.disconnected();
        assert_eq!(text(live.next_retained()), pair("a/x", ""));
        assert_eq!(text(live.next_retained()), pair("ab", "2"));
        live.confirm();
        assert!(live.is_confirmed());
        live.disconnected();
        assert_eq!(text(live.next_retained()), pair("ab", "2"));
        assert!(live.is_drained());
    }

    #[test]
    fn a_box_that_goes_elsewhere_takes_its_messages_along() {
        let live = Live::new(Counter::new(), Gauge::new());
        for topic in ["b/status", "b/streams/x/status", "b/plugins/p/status"] {
            live.retain(topic.into(), b"1".to_vec());
        }
        while live.next_retained().is_some() {}
        live.fleeting("b/telemetry".into(), b"1".to_vec());
        live.picture("b/streams/x/snapshot".into(), b"1".to_vec());
        live.leave("b/status");
        live.picture("b/streams/x/snapshot".into(), b"2".to_vec());
        live.retain("b/streams/x/status".into(), b"2".to_vec());
        live.fleeting("b/telemetry".into(), b"2".to_vec());
        assert_eq!(text(live.next_retained()), pair("b/plugins/p/status", ""));
        assert_eq!(text(live.next_retained()), pair("b/streams/x/snapshot", ""));
        assert_eq!(text(live.next_retained()), pair("b/streams/x/status", ""));
        assert!(live.next_picture().is_none());
        assert!(live.next_retained().is_none() && live.next_fleeting().is_none() && live.is_drained());
    }

    #[test]
    fn of_a_picture_only_the_newest_is_sent_and_goes_with_its_stream() {
        let live = Live::new(Counter::new(), Gauge::new());
        live.picture("a/snapshot".into(), b"1".to_vec());
        live.picture("a/snapshot".into(), b"2".to_vec());
        assert_eq!(text(live.next_picture()), pair("a/snapshot", "2"));
        assert!(live.next_picture().is_none());
        live.disconnected();
        assert_eq!(text(live.next_picture()), pair("a/snapshot", "2"));
        live.clear("a/");
        assert_eq!(text(live.next_picture()), pair("a/snapshot", ""));
        live.disconnected();
        assert!(live.next_picture().is_none());
    }

    #[test]
    fn fleeting_messages_are_bounded_and_the_oldest_go_first() {
        let dropped = Counter::new();
        let waiting = Gauge::new();
        let live = Live::new(dropped.clone(), waiting.clone());
        for n in 0..FLEETING + 3 {
            live.fleeting(n.to_string(), b"x".to_vec());
        }
        assert_eq!(dropped.get(), 3);
        assert_eq!(live.next_fleeting().unwrap().0, "3");
        live.fleeting("large".into(), vec![0; FLEETING_BYTES]);
        assert_eq!(waiting.get(), 1.0);
        assert_eq!(live.next_fleeting().unwrap().0, "large");
        assert!(live.next_fleeting().is_none());
        assert_eq!(waiting.get(), 0.0);
    }
}
