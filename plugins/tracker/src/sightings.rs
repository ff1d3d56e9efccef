//! The last sightings of a track, in the track itself.
//!
//! In: sightings as they come. Out: the last of them, oldest first. No heap: tracks are copied often where people
//! meet, and an allocation is dear in WebAssembly. Serialised as a plain list; nothing here fails.

use serde::{Deserialize, Serialize};

use crate::Bounds;

/// When and where a track's object was seen.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Sighting {
    /// Stream time in seconds.
    pub at: f64,
    /// Where.
    pub bounds: Bounds,
}

/// How many are remembered.
const MEMORY: usize = 12;

/// The last sightings, at least one: a ring.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
#[serde(into = "Vec<Sighting>", try_from = "Vec<Sighting>")]
pub struct Sightings {
    ring: [Sighting; MEMORY],
    /// Where the newest stands.
    newest: usize,
    count: usize,
}

impl Sightings {
    /// The first one.
    #[must_use]
    pub fn new(first: Sighting) -> Self {
        Self { ring: [first; MEMORY], newest: 0, count: 1 }
    }

    /// Adds one; the oldest goes where there is no room.
    pub fn push(&mut self, sighting: Sighting) {
        self.newest = (self.newest + 1) % MEMORY;
        self.ring[self.newest] = sighting;
        self.count = (self.count + 1).min(MEMORY);
    }

    /// The newest one.
    #[must_use]
    pub fn last(&self) -> Sighting {
        self.ring[self.newest]
    }

    /// From the newest to the oldest.
    pub fn back(&self) -> impl Iterator<Item = &Sighting> {
        (0..self.count).map(|age| &self.ring[(self.newest + MEMORY - age) % MEMORY])
    }

    /// All of them, in no order.
    pub fn iter_mut(&mut self) -> impl Iterator<Item = &mut Sighting> {
        // Until the ring has been round once, what lies beyond the newest was never seen and does no harm.
        self.ring.iter_mut()
    }
}

impl PartialEq for Sightings {
    fn eq(&self, other: &Self) -> bool {
        self.back().eq(other.back())
    }
}

impl From<Sightings> for Vec<Sighting> {
    fn from(sightings: Sightings) -> Self {
        let mut list: Self = sightings.back().copied().collect();
        list.reverse();
        list
    }
}

impl TryFrom<Vec<Sighting>> for Sightings {
    type Error = &'static str;

    fn try_from(list: Vec<Sighting>) -> Result<Self, Self::Error> {
        let (first, more) = list.split_first().ok_or("a track that was never seen")?;
        let mut sightings = Self::new(*first);
        more.iter().for_each(|sighting| sightings.push(*sighting));
        Ok(sightings)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn seen(at: usize) -> Sighting {
        Sighting { at: at as f64, bounds: Bounds::default() }
    }

    #[test]
    fn the_last_are_kept_in_order_and_survive_a_snapshot() {
        for count in [1, 5, MEMORY, MEMORY + 1, 5 * MEMORY + 3] {
            let mut sightings = Sightings::new(seen(0));
            (1..count).for_each(|at| sightings.push(seen(at)));
            let expected: Vec<f64> = (count.saturating_sub(MEMORY)..count).map(|at| at as f64).collect();
            let list = Vec::from(sightings);
            assert_eq!(list.iter().map(|s| s.at).collect::<Vec<_>>(), expected);
            assert_eq!(sightings.last().at, (count - 1) as f64);
            assert_eq!(Sightings::try_from(list), Ok(sightings));
        }
        assert!(Sightings::try_from(vec![]).is_err());
    }
}
