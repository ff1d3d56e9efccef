//! `budgets`: measures the CPU budgets that need the whole daemon, each beside its floor in one run.
//!
//! In: names of parts; none: all of them. Out: one line a figure with its budget, and the measured reason below it
//! where a budget is missed. Nothing asserts a time: the exit status is 0 also then, and 1 where something could not
//! be measured at all. What a part starts, it stops.

mod figures;
mod floor;
mod idle;
mod inference;
mod lane;
mod latency;
mod mot;
mod process;
mod ready;
mod small;
mod tracker;
mod whole;

use std::process::ExitCode;

type Part = fn() -> anyhow::Result<()>;

/// The parts by name, in the order in which they run, and what each measures.
const PARTS: [(&str, &str, Part); 7] = [
    ("lane", "CPU time a frame with yolox_nano_416, over decoding plus inference alone", lane::measure),
    (
        "small",
        "the same with a model of about a millisecond, so that the pipeline shows",
        lane::measure_small,
    ),
    ("tracker", "the tracker in WebAssembly with 50 objects, over its native build", tracker::measure),
    ("latency", "decoder to MQTT subscriber beyond inference, 99th percentile at 30 fps", latency::measure),
    ("idle", "memory of a further 720p stream without models", idle::measure),
    ("ready", "the daemon's start to READY=1, caches warm", ready::measure),
    ("mot", "the tracker's output on MOT17, for mot_score.py", mot::measure),
];

fn main() -> ExitCode {
    let wanted: Vec<String> = std::env::args().skip(1).collect();
    if wanted.iter().any(|name| name == "--help" || name == "-h") {
        help();
        return ExitCode::SUCCESS;
    }
    if let Some(unknown) = wanted.iter().find(|name| PARTS.iter().all(|(part, ..)| part != name)) {
        eprintln!("budgets: no part \"{unknown}\"; --help lists them");
        return ExitCode::from(2);
    }
    let mut failed = false;
    for (name, _, measure) in PARTS {
        if !wanted.is_empty() && !wanted.iter().any(|other| other == name) {
            continue;
        }
        // The harness panics where a server or the daemon does not do its part; the other parts go on.
        match std::panic::catch_unwind(measure) {
            Ok(Ok(())) => {}
            Ok(Err(error)) => {
                eprintln!("{name}: could not be measured: {error:#}");
                failed = true;
            }
            Err(_) => {
                eprintln!("{name}: could not be measured");
                failed = true;
            }
        }
    }
    ExitCode::from(u8::from(failed))
}

fn help() {
    println!("Measures CPU budgets beside their floors. Run it on a machine that does nothing else.\n");
    println!("Usage: budgets [PART]...\n\nParts (default: all):");
    for (name, what, _) in PARTS {
        println!("  {name:10} {what}");
    }
    println!(
        "\nNeeds a release build of the daemon with plugins and models (make build), ORT_DYLIB_PATH, and mosquitto.\n\
         Exit status: 0, also where a budget is missed; 1 where something could not be measured."
    );
}
