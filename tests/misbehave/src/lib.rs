//! A plugin that does what its configuration says, most of it wrong.
//!
//! In: `behave` and from which frame on. Out: endless loops, memory without end, traps, floods, lies; or
//! honest work that tests compare: it counts frames, marks objects, keeps its count over crash and swap.

#![allow(clippy::expect_used, clippy::unwrap_used)]

use watchpost_plugin::prelude::*;

/// What to do.
#[derive(Debug, Clone, Copy, Default, PartialEq, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Behave {
    /// Honest: counts frames.
    #[default]
    Count,
    /// Honest: each object's track becomes a number made of frame, class and place.
    Mark,
    /// Honest, with an incident over frames 10 to 20 of every 40.
    Alert,
    /// Honest, but slow: `amount` rounds of arithmetic a frame.
    Slow,
    /// Honest: writes to standard output.
    Print,
    /// Answers with an error.
    Error,
    /// Never comes back.
    Loop,
    /// Takes memory without end.
    Memory,
    /// Calls itself without end.
    Recursion,
    /// Calls itself without end, with much on its stack.
    LargeRecursion,
    /// Panics.
    Trap,
    /// Calls exit.
    Exit,
    /// Gives an event with `amount` bytes of data.
    HugeText,
    /// Gives `amount` objects.
    ManyObjects,
    /// Gives `amount` shapes.
    ManyShapes,
    /// Writes `amount` log lines a frame.
    LogFlood,
    /// Takes `amount` ids a frame.
    ManyIds,
    /// Gives an object whose bounds are no numbers.
    NotANumber,
    /// Gives an object of negative size.
    Negative,
    /// Gives an object of a model that the stream does not have.
    NoSuchModel,
    /// Gives an update and an end of incidents that never began, and an event of an unknown kind.
    Disorder,
    /// Gives states, views and shapes that do not fit its descriptor.
    Misfits,
    /// Gives `amount` bytes of state.
    HugeState,
    /// Refuses its configuration.
    Refuse,
    /// Never comes back from its configuration.
    LoopAtStart,
}

/// Configuration.
#[derive(Debug, Clone, Default, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// What to do.
    behave: Behave,
    /// From which frame on.
    from: u64,
    /// Up to which frame; 0: for ever.
    until: u64,
    /// How much of it.
    amount: u64,
}

/// The plugin.
pub struct Misbehave {
    config: Config,
    count: u64,
    incident: Option<u64>,
    hoard: Vec<Vec<u8>>,
}

/// A recursion that the compiler cannot turn into a loop. It uses up the engine's stack.
fn descend(depth: u64) -> u64 {
    let depth = std::hint::black_box(depth);
    if depth == u64::MAX { 0 } else { descend(depth + 1).rotate_left(1) ^ depth }
}

/// The same with large frames: they lie in linear memory, and use that up first.
fn descend_far(depth: u64) -> u64 {
    let frame = std::hint::black_box([depth; 16]);
    if frame[3] == u64::MAX { 0 } else { descend_far(depth + 1) + frame[7] }
}

fn forever() -> ! {
    let mut number = 1u64;
    loop {
        number = std::hint::black_box(number.wrapping_mul(3));
    }
}

impl Misbehave {
    fn misbehave(&mut self, objects: &mut Objects, out: &mut Out) -> Result<(), String> {
        let amount = self.config.amount;
        match self.config.behave {
            Behave::Error => return Err("no wish to work".into()),
            Behave::Loop => forever(),
            Behave::Memory => loop {
                self.hoard.push(vec![1; 1 << 20]);
            },
            Behave::Recursion => out.state("count", &descend(self.count)),
            Behave::LargeRecursion => out.state("count", &descend_far(self.count)),
            Behave::Trap => panic!("built to trap at frame {}", self.count),
            Behave::Exit => std::process::exit(3),
            Behave::HugeText => {
                let event = Event::new(host::new_id(), "fuss", Change::Begin, Severity::Info);
                out.event(event.data(serde_json::json!({ "text": "x".repeat(amount as usize) })));
            }
            Behave::ManyObjects => objects.resize(amount as usize, Object::default()),
            Behave::ManyShapes => (0..amount).for_each(|_| out.text(0.0, 0.0, "x", 0)),
            Behave::LogFlood => (0..amount).for_each(|n| host::info(&format!("line {n}"))),
            Behave::ManyIds => (0..amount).for_each(|_| _ = host::new_id()),
            Behave::NotANumber => {
                objects.push(Object { bounds: Rect::new(f32::NAN, 0.0, 1.0, 1.0), ..Object::default() });
            }
            Behave::Negative => {
                objects.push(Object { bounds: Rect::new(5.0, 5.0, -1.0, 1.0), ..Object::default() });
            }
            Behave::NoSuchModel => objects.push(Object { model: 77, ..Object::default() }),
            Behave::Disorder => {
                out.event(Event::new(host::new_id(), "fuss", Change::Update, Severity::Info));
                out.event(Event::new(host::new_id(), "fuss", Change::End, Severity::Info));
                out.event(Event::new(host::new_id(), "unheard-of", Change::Begin, Severity::Info));
                out.event(Event::new(u64::MAX, "fuss", Change::Begin, Severity::Info));
            }
            Behave::Misfits => {
                out.state("unheard-of", &1);
                out.view("unheard-of", 0, Rect::new(0.0, 0.0, 9.0, 9.0));
                out.view("main", 1 << 40, Rect::new(0.0, 0.0, 9.0, 9.0));
                out.view("main", 0, Rect::new(0.0, f32::INFINITY, 9.0, 9.0));
                out.polygon([(0.0, 0.0)], 0);
                out.text(f32::NAN, 0.0, "x", 0);
            }
            _ => {}
        }
        Ok(())
    }
}

impl Plugin for Misbehave {
    type Config = Config;

    fn describe() -> Descriptor {
        Descriptor::new("misbehave", "1.0.0", "Does what its configuration says, most of it wrong.")
            .event("fuss")
            .state("count")
            .camera("main", 2)
            .command("count")
            .command("panic")
    }

    fn new(_: &Context, config: Config) -> Result<Self, String> {
        match config.behave {
            Behave::Refuse => return Err("this configuration is not to my taste".into()),
            Behave::LoopAtStart => forever(),
            _ => {}
        }
        Ok(Self { config, count: 0, incident: None, hoard: Vec::new() })
    }

    fn process(
        &mut self,
        frame: &Frame,
        _: &[Run],
        objects: &mut Objects,
        _: &[Score],
        out: &mut Out,
    ) -> Result<(), String> {
        self.count += 1;
        let begun = frame.index >= self.config.from;
        if begun && (self.config.until == 0 || frame.index < self.config.until) {
            self.misbehave(objects, out)?;
        }
        match self.config.behave {
            Behave::Mark => {
                for object in objects.iter_mut() {
                    object.track =
                        frame.index * 1000 + u64::from(object.class) * 100 + object.bounds.x as u64 + 1;
                }
            }
            Behave::Alert => match (frame.index % 40, self.incident) {
                (10, None) => {
                    let incident = host::new_id();
                    self.incident = Some(incident);
                    out.event(Event::new(incident, "fuss", Change::Begin, Severity::High).tracks([7]));
                }
                (15, Some(incident)) => {
                    out.event(Event::new(incident, "fuss", Change::Update, Severity::High).tracks([7, 8]));
                }
                (20, Some(incident)) => {
                    self.incident = None;
                    out.event(Event::new(incident, "fuss", Change::End, Severity::High));
                }
                _ => {}
            },
            Behave::Slow => {
                let mut number = frame.index;
                for round in 0..self.config.amount {
                    number = std::hint::black_box(number.wrapping_mul(0x9e37_79b9_7f4a_7c15) ^ round);
                }
            }
            Behave::Print => println!("frame {} seen", frame.index),
            _ => {}
        }
        out.state("count", &self.count);
        Ok(())
    }

    fn snapshot(&self) -> Option<(u32, Vec<u8>)> {
        if self.config.behave == Behave::HugeState {
            return Some((1, vec![0; self.config.amount as usize]));
        }
        serde_json::to_vec(&(self.count, self.incident)).ok().map(|bytes| (1, bytes))
    }

    fn restore(&mut self, version: u32, bytes: &[u8]) -> Result<(), String> {
        if version != 1 {
            return Err(format!("state of version {version}"));
        }
        (self.count, self.incident) = serde_json::from_slice(bytes).map_err(|error| error.to_string())?;
        Ok(())
    }

    fn command(&mut self, name: &str, arguments: &serde_json::Value) -> Result<serde_json::Value, String> {
        match (name, arguments.as_u64()) {
            ("count", Some(count)) => {
                self.count = count;
                Ok(serde_json::json!({ "count": count }))
            }
            ("count", None) => Err("a whole number is wanted".into()),
            _ => panic!("built to trap over a command"),
        }
    }
}

watchpost_plugin::export!(Misbehave);
