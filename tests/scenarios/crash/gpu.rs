//! Crashes on the CUDA lane: in an NVDEC decoder, which blame its source; in what all streams share, which blame nobody.
//!
//! In: the software CUDA driver, with decoders that stand for NVDEC and die of a marked packet (`tests/cuda/codecs.c`).
//! Out: daemons that die of the signal itself, and what they say after the restart.

use std::path::{Path, PathBuf};

use e2e::cuda::Soft;
use e2e::daemon::Daemon;
use e2e::data::root;
use e2e::rtsp::RtspServer;
use rustix::process::{Pid, Signal, kill_process};
use serde_json::json;

use super::{PATIENCE, book, config, encode, wait_state};

/// H.264 of four seconds; one of its packets carries a word for the decoder, where one is given.
fn video(folder: &Path, name: &str, word: Option<&str>) -> PathBuf {
    let path = folder.join(format!("{name}.mp4"));
    let encoder = "x264enc tune=zerolatency key-int-max=25 speed-preset=ultrafast aud=false ! \
                   video/x-h264,stream-format=byte-stream,alignment=au";
    encode(&path, encoder, "h264parse ! mp4mux", word, |packet, mark| {
        // Supplemental information, "unregistered user data": 16 bytes that say whose it is, and the text.
        let size = u8::try_from(16 + mark.len()).unwrap();
        let message = [&[0, 0, 0, 1, 6, 5, size][..], &[0x77; 16], mark, &[0x80]].concat();
        packet.splice(0..0, message);
    });
    path
}

/// The software GPU, with NVDEC.
fn soft(folder: &Path) -> Soft {
    let codecs = root().join("target/cuda/codecs");
    assert!(codecs.join("libgstsoftcodecs.so").is_file(), "not built: make soft-driver");
    Soft::new(folder).with("GST_PLUGIN_PATH", codecs.to_str().unwrap())
}

fn start(folder: &Path, config: &str, soft: &Soft) -> Daemon {
    Daemon::start_with(folder, config, &soft.environment())
}

/// Starts a daemon and waits until it has died; gives the signal and its log.
fn dies(folder: &Path, config: &str, soft: &Soft) -> (i32, String) {
    use std::os::unix::process::ExitStatusExt;
    let (end, log) = start(folder, config, soft).end(PATIENCE);
    (end.signal().unwrap_or_else(|| panic!("{end:?}\n{log}")), log)
}

fn on_cuda(streams: &[(&str, &Path)]) -> String {
    format!("accel.lane = \"cuda\"\n{}", config("off", streams))
}

#[test]
fn a_source_that_crashes_nvdec_is_quarantined_by_name_and_the_others_run_on_the_gpu() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    let (good, bad) = (video(folder, "good", None), video(folder, "bad", Some("segv")));
    let both = on_cuda(&[("good", &good), ("bad", &bad)]);
    let soft = soft(folder);
    for count in 0..3 {
        let (signal, log) = dies(folder, &both, &soft);
        assert_eq!(signal, Signal::SEGV.as_raw(), "life {count}:\n{log}");
        let told = log.contains("the daemon crashed before: SIGSEGV")
            && log.contains("in the decoder of stream bad");
        assert_eq!(told, count > 0, "life {count}:\n{log}");
    }

    let daemon = start(folder, &both, &soft);
    let status = wait_state(&daemon, "bad", "quarantined");
    let error = status["error"].as_str().unwrap();
    for part in [
        "stream bad is quarantined",
        &bad.display().to_string(),
        "crashed the daemon 3 times in its decoder (nvh264dec)",
        "watchpost enable bad",
    ] {
        assert!(error.contains(part), "\"{part}\" is not in: {error}");
    }
    let status = wait_state(&daemon, "good", "running");
    assert_eq!(
        (&status["lane"], &status["edges"][0]["by"]),
        (&json!("cuda"), &json!("nvh264dec")),
        "{status}"
    );
    assert!(daemon.stop().success());
}

#[test]
fn a_camera_and_a_thread_of_the_driver_s() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    let soft = soft(folder);
    // A live decoder runs in a thread of its pipeline, which only the bus tells of.
    let camera = RtspServer::serve(&video(folder, "bad", Some("abort")));
    let text = format!(
        "{}[streams.camera]\nsource = \"{}\"\n",
        on_cuda(&[("file", &video(folder, "good", None))]),
        camera.url("/main")
    );
    let (signal, log) = dies(folder, &text, &soft);
    assert_eq!(signal, Signal::ABORT.as_raw(), "{log}");
    // A thread that the driver has for all streams: both decode, so both are suspected.
    let both =
        on_cuda(&[("file", &folder.join("good.mp4")), ("other", &video(folder, "stray", Some("stray")))]);
    let (signal, log) = dies(folder, &both, &soft);
    assert_eq!(signal, Signal::SEGV.as_raw(), "{log}");
    assert!(log.contains("in the decoder of stream camera"), "{log}");

    let daemon = start(folder, &on_cuda(&[("file", &folder.join("good.mp4"))]), &soft);
    wait_state(&daemon, "file", "running");
    assert!(daemon.log().contains("and suspected: the decoders of"), "{}", daemon.log());
    let book = book(folder);
    let blamed: Vec<_> = book["crashes"]
        .as_array()
        .unwrap()
        .iter()
        .map(|crash| {
            let sources = crash["sources"].as_array().unwrap().iter();
            let mut names: Vec<_> =
                sources.map(|it| (it["stream"].as_str().unwrap(), it["decoder"].as_str().unwrap())).collect();
            names.sort_unstable();
            (crash["certain"].as_bool().unwrap(), names)
        })
        .collect();
    let suspects = vec![("file", "nvh264dec"), ("other", "nvh264dec")];
    assert_eq!(blamed, [(true, vec![("camera", "nvh264dec")]), (false, suspects)], "{book:#}");
    assert!(daemon.stop().success());
}

#[test]
fn what_breaks_after_a_gpu_was_lost_is_no_source_s_doing() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    let text = on_cuda(&[("bad", &video(folder, "stop", Some("stop")))]);
    // CUDA_ERROR_LAUNCH_FAILED breaks the context; the stream ends, and its decoder does not survive that.
    let lost = soft(folder).with("WATCHPOST_SOFT_FAIL", "cuLaunchKernel:60=719");
    for count in 0..3 {
        let (signal, log) = dies(folder, &text, &lost);
        assert_eq!(signal, Signal::SEGV.as_raw(), "life {count}:\n{log}");
        // So soon that nobody else has said yet that the GPU is lost.
        let told = log.contains("the daemon crashed before: SIGSEGV")
            && log.contains("no stream's decoder is suspected");
        assert_eq!(told, count > 0, "life {count}:\n{log}");
    }
    assert_eq!(book(folder), json!({}));
    // The same death without a lost GPU is the source's.
    let well = soft(folder);
    let daemon = start(folder, &text, &well);
    wait_state(&daemon, "bad", "running");
    kill_process(Pid::from_raw(daemon.id().cast_signed()).unwrap(), Signal::TERM).unwrap();
    let (end, log) = daemon.end(PATIENCE);
    assert!(!end.success(), "{log}");
    let daemon = start(folder, &text, &well);
    wait_state(&daemon, "bad", "running");
    assert!(daemon.log().contains("in the decoder of stream bad"), "{}", daemon.log());
    daemon.kill();
}

#[test]
fn a_crash_while_a_gpu_is_opened_blames_no_stream() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    let good = video(folder, "good", None);
    let one = format!("accel.lane = \"cpu\"\n{}", config("off", &[("cpu", &good)]));
    let both = format!(
        "{one}[streams.late]\nsource = \"{}\"\nloop = true\nrealtime = true\nlane = \"cuda\"\n",
        good.display()
    );
    let well = soft(folder);
    // GStreamer knows the plugin from then on, and loads it when somebody wants it.
    let daemon = start(folder, &one, &well);
    wait_state(&daemon, "cpu", "running");
    assert!(daemon.stop().success());

    let ill = soft(folder).with("WATCHPOST_SOFT_NVDEC_LOAD", "1");
    let daemon = start(folder, &one, &ill);
    wait_state(&daemon, "cpu", "running");
    std::fs::write(daemon.config(), &both).unwrap();
    // It may die before it answers.
    let _ = daemon.command(&["reload"]);
    let (end, log) = daemon.end(PATIENCE);
    assert_eq!(std::os::unix::process::ExitStatusExt::signal(&end), Some(Signal::SEGV.as_raw()), "{log}");

    let daemon = start(folder, &both, &well);
    wait_state(&daemon, "cpu", "running");
    assert!(daemon.log().contains("no stream's decoder is suspected"), "{}", daemon.log());
    assert_eq!(book(folder), json!({}));
    assert_eq!(wait_state(&daemon, "late", "running")["edges"][0]["by"], "nvh264dec");
    assert!(daemon.stop().success());
}
