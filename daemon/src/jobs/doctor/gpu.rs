//! The GPU's driver, its devices and their load; the lane that frames take.
//!
//! In: the machine, the configuration. Out: findings. Runs in a process of its own: a broken driver crashes whoever asks it.

use super::finding::Finding;
use super::tries::Tries;
use crate::config::Settings;
use crate::config::settings::{LaneChoice, Stream};
use crate::gpu::{Driver, Load, NoDriver, Nvml, Process, probe, trial};

pub(super) fn look(tries: &mut Tries, settings: &Settings) {
    // Those that would use the GPU, and die with its driver.
    let lane = |stream: &Stream| stream.lane.unwrap_or(settings.accel.lane);
    let streams = &super::enabled(settings, |stream| lane(stream) != LaneChoice::Cpu);
    tries.vital("GPU driver", "libcuda.so.1", streams, || vec![driver()]);
    // It did not crash a moment ago.
    let gpus = probe().map(|driver| driver.gpus).unwrap_or_default();
    for gpu in gpus {
        let (major, minor) = gpu.compute;
        let memory = gpu.memory as f64 / 1e9;
        let text = format!("{}: {}, compute capability {major}.{minor}, {memory:.1} GB", gpu.index, gpu.name);
        tries.one("GPU", &text.clone(), streams, || {
            let finding = if major < 6 {
                Finding::limited(
                    "GPU",
                    text,
                    "the kernels need compute capability 6.0 or newer (Pascal, 2016)",
                )
            } else {
                match trial(gpu.index) {
                    Ok(()) => Finding::good("GPU", format!("{text}: context, kernels and memory work")),
                    Err(error) => Finding::limited("GPU", format!("{text}: {error}"), error.advice()),
                }
            };
            vec![finding.details(&gpu)]
        });
    }
    tries.one("GPU load", "libnvidia-ml.so.1", streams, load);
    // Without its lane the daemon does not start at all.
    let all = super::enabled(settings, |_| true);
    tries.one("lane", "the box's lane", &all, || {
        vec![lane_of(None, crate::pipeline::check_lane(settings, None), &all)]
    });
    let own = settings.streams.iter().filter(|(_, stream)| {
        let other = |gpu| gpu != settings.accel.gpu;
        stream.enabled
            && (stream.lane.is_some_and(|lane| lane != settings.accel.lane) || stream.gpu.is_some_and(other))
    });
    for (name, stream) in own {
        let stops = [name.clone()];
        tries.one("lane", &format!("the lane of {name}"), &stops, || {
            vec![lane_of(Some(name), crate::pipeline::check_lane(settings, Some(stream)), &stops)]
        });
    }
}

fn lane_of(stream: Option<&str>, lane: Result<String, String>, stops: &[String]) -> Finding {
    let whose = stream.map(|name| format!("{name}: ")).unwrap_or_default();
    match lane {
        Ok(lane) => Finding::good("lane", format!("{whose}{lane}")),
        Err(why) => {
            let key = stream.map_or_else(|| "accel.lane".to_owned(), |name| format!("streams.{name}.lane"));
            let fix = format!("mend what is said of the GPU above, or set {key} = \"auto\"");
            // Also where there is no stream yet: the daemon does not start.
            Finding::wrong("lane", format!("{whose}{why}"), fix, stops)
        }
    }
}

fn driver() -> Finding {
    match probe() {
        Ok(driver) => {
            let Driver { cuda, module, .. } = &driver;
            let module = module.as_deref().unwrap_or("version unknown");
            let text = format!("{module}, CUDA {}.{}", cuda / 1000, cuda % 1000 / 10);
            Finding::good("GPU driver", text).details(&driver)
        }
        // A box without a driver is an ordinary box; one whose driver is broken is not.
        Err(error @ NoDriver::NoLibrary) => {
            Finding::limited("GPU driver", format!("{error}; streams run on the CPU"), error.advice())
        }
        Err(error) => Finding::limited("GPU driver", error.to_string(), error.advice()),
    }
}

fn load() -> Vec<Finding> {
    let what = "GPU load";
    let loads = Nvml::start()
        .map_err(|error| Finding::limited(what, format!("not known: {error}"), error.advice()))
        .and_then(|nvml| nvml.loads().map_err(|error| Finding::limited(what, error, "see `nvidia-smi`")));
    match loads {
        Ok(loads) => loads.iter().map(load_of).collect(),
        Err(finding) => vec![finding],
    }
}

fn load_of(load: &Load) -> Finding {
    let what = "GPU load";
    if let Some(error) = &load.lost {
        let fix = "see `journalctl -k -g NVRM`; a GPU that fell off the bus needs a reboot, or better power or cooling";
        return Finding::limited(what, format!("{}: {error}", load.index), fix).details(load);
    }
    let percent = |name, value: Option<u32>| value.map(|value| format!("{name} {value} %"));
    let used = load.memory_used.zip(load.memory_total);
    let known = [
        percent("kernels", load.sm),
        percent("decoder", load.decoder),
        percent("encoder", load.encoder),
        used.map(|(used, total)| format!("{:.1} of {:.1} GB in use", used as f64 / 1e9, total as f64 / 1e9)),
        load.temperature.map(|degrees| format!("{degrees} °C")),
        load.power.map(|watts| format!("{watts:.0} W")),
        load.processes.as_deref().filter(|all| !all.is_empty()).map(processes),
    ];
    let text = format!("{}: {}", load.index, known.into_iter().flatten().collect::<Vec<_>>().join(", "));
    let finding = match load.held_by.as_deref() {
        Some(by) if !by.is_empty() => {
            let text = format!("{text}; its clocks are held back by: {}", by.join(", "));
            Finding::limited(what, text, "look after its cooling and power supply")
        }
        _ if !load.too_old_for.is_empty() => {
            let text = format!("{text}; the driver is too old to say: {}", load.too_old_for.join(", "));
            Finding::limited(what, text, "a newer driver says it")
        }
        _ => Finding::good(what, text),
    };
    finding.details(load)
}

/// Who uses it: what else takes its memory is why there is not more.
fn processes(all: &[Process]) -> String {
    let name = |id: u32| {
        let read = std::fs::read_to_string(format!("/proc/{id}/comm"));
        read.map_or_else(|_| format!("process {id}"), |name| format!("{} ({id})", name.trim()))
    };
    let memory =
        |bytes: Option<u64>| bytes.map_or_else(String::new, |it| format!(" {:.1} GB", it as f64 / 1e9));
    let all: Vec<String> = all.iter().map(|one| format!("{}{}", name(one.id), memory(one.memory))).collect();
    format!("used by {}", all.join(", "))
}

#[cfg(test)]
mod tests {
    use super::super::Verdict;
    use super::*;

    #[test]
    fn what_holds_a_gpu_back_and_what_is_not_known_is_said() {
        let load =
            Load { sm: Some(97), temperature: Some(91), held_by: Some(vec!["thermal"]), ..Load::default() };
        let finding = load_of(&load);
        assert_eq!(finding.verdict, Verdict::Limited);
        assert_eq!(finding.found, "0: kernels 97 %, 91 °C; its clocks are held back by: thermal");
        let old = Load { power: Some(61.4), too_old_for: vec!["memory"], ..Load::default() };
        assert!(load_of(&old).found.contains("61 W; the driver is too old to say: memory"));
        let lost = Load { lost: Some("off the bus".into()), ..Load::default() };
        assert_eq!(load_of(&lost).verdict, Verdict::Limited);
        let own = Process { id: std::process::id(), memory: Some(2_000_000_000), own: true };
        let busy = Load { processes: Some(vec![own]), held_by: Some(vec![]), ..Load::default() };
        let found = load_of(&busy);
        assert!(found.verdict == Verdict::Good && found.found.ends_with(" 2.0 GB"), "{}", found.found);
    }
}
