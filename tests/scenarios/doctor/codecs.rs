//! NVDEC and NVENC under the software driver, with elements that stand for them and a library that stands for NVENC's: each
//! codec is tried, sessions are counted, and what fails is said in its own words, with the advice that fits.

use std::path::{Path, PathBuf};

use e2e::cuda::Soft;
use e2e::data::root;
use serde_json::Value;

use super::{clip, findings, only, report, write};

/// A box with NVENC's library; `elements`: with those that decode and encode, too.
fn soft(folder: &Path, elements: bool) -> Soft {
    let driver = root().join("target/cuda");
    for file in ["codecs/libgstsoftcodecs.so", "encode/libnvidia-encode.so.1"] {
        assert!(driver.join(file).exists(), "{file} is not built: run `make soft-driver`");
    }
    let libraries = format!("{}:{}", driver.display(), driver.join("encode").display());
    let soft = Soft::new(folder).with("LD_LIBRARY_PATH", &libraries);
    if elements { soft.with("GST_PLUGIN_PATH", driver.join("codecs").to_str().unwrap()) } else { soft }
}

/// A stream from a file, on whichever lane there is.
fn stream(folder: &Path) -> PathBuf {
    write(folder, "url = \"off\"", clip(folder).to_str().unwrap(), "auto", "")
}

/// What to do about a finding.
fn fix(report: &Value, what: &str, found: &str) -> String {
    let all = report["findings"].as_array().unwrap();
    let text = |finding: &Value, key: &str| finding[key].as_str().unwrap_or_default().to_owned();
    let one = all.iter().find(|finding| finding["what"] == what && text(finding, "found").contains(found));
    text(one.unwrap_or_else(|| panic!("nothing of {what} with {found}: {report}")), "fix")
}

#[test]
fn codecs_of_the_gpu_are_tried_and_encoder_sessions_counted() {
    let folder = tempfile::tempdir().unwrap();
    let file = stream(folder.path());
    let (code, seen) =
        report(&file, &soft(folder.path(), true).with("WATCHPOST_SOFT_NVENC", "3").environment());
    assert_eq!(code, Some(0), "{seen}");
    let nvdec = findings(&seen, "NVDEC");
    let expected = ["H.264: nvh264dec", "H.265: nvh265dec", "VP9: nvvp9dec"];
    assert_eq!(nvdec.len(), expected.len(), "{nvdec:?}");
    for ((verdict, found), expected) in nvdec.iter().zip(expected) {
        assert!(verdict == "good" && *found == format!("0: {expected} decoded a frame"), "{found}");
    }
    let nvenc = findings(&seen, "NVENC");
    assert_eq!(nvenc.len(), 4, "{nvenc:?}");
    for ((verdict, found), name) in nvenc.iter().zip(["nvh264enc", "nvh265enc", "nvav1enc"]) {
        assert!(verdict == "good" && found.ends_with(&format!("{name} encoded a picture")), "{found}");
    }
    let sessions = "0: sessions: 3 at once; the next one: Failed to open session: out of memory (10)";
    assert_eq!(nvenc[3], ("limited".to_owned(), sessions.to_owned()));
    // A stream's source is opened as its lane would.
    assert!(only(&seen, "source").1.contains("first frame by nvh264dec"), "{seen}");
}

#[test]
fn what_the_gpus_codecs_refuse_is_said_in_their_words() {
    let folder = tempfile::tempdir().unwrap();
    let file = stream(folder.path());
    // The words are on the bus, or as with GStreamer's own elements in its log alone.
    for (quiet, words) in [
        ("0", "Failed to open session: out of memory (10)"),
        ("1", "Failed to open session, status: NV_ENC_ERR_OUT_OF_MEMORY (10)"),
    ] {
        let failing = soft(folder.path(), true).with("WATCHPOST_SOFT_NVDEC_FAIL", "0");
        let failing = failing.with("WATCHPOST_SOFT_NVENC", "0").with("WATCHPOST_SOFT_NVENC_QUIET", quiet);
        let (code, seen) = report(&file, &failing.environment());
        assert_eq!(code, Some(0), "the CPU does what the GPU does not: {seen}");
        let nvdec = findings(&seen, "NVDEC");
        assert!(nvdec.len() == 3 && nvdec.iter().all(|(verdict, _)| verdict == "limited"), "{nvdec:?}");
        assert!(nvdec[0].1.contains("Failed to decode picture"), "{nvdec:?}");
        let nvenc = findings(&seen, "NVENC");
        assert_eq!(nvenc.len(), 3, "{nvenc:?}");
        for ((verdict, found), name) in nvenc.iter().zip(["nvh264enc", "nvh265enc", "nvav1enc"]) {
            let said = format!("{name} does not encode: {words}");
            assert!(verdict == "limited" && found.contains(&said), "{found}");
        }
        let advice = fix(&seen, "NVENC", "nvh264enc");
        assert!(advice.starts_with("other programs have all its sessions"), "{advice}");
        let by = "first frame by avdec_h264 (NVDEC: nvh264dec failed)";
        assert!(only(&seen, "source").1.contains(by), "{seen}");
    }
}

/// GStreamer's own plugin lists no encoder, whatever the reason; the driver's library knows it.
#[test]
fn why_no_encoder_is_listed_is_asked_of_the_driver() {
    let folder = tempfile::tempdir().unwrap();
    let nowhere = folder.path().join("none.toml");
    for (setting, value, said, advice) in [
        (
            "WATCHPOST_SOFT_NVENC_STATUS",
            "2",
            "the driver says: unsupported device (2)",
            "this GPU has no NVENC",
        ),
        (
            "WATCHPOST_SOFT_NVENC_STATUS",
            "21",
            "incompatible client key (21)",
            "other programs have all its sessions",
        ),
        ("WATCHPOST_SOFT_NVENC_STATUS", "15", "invalid version (15)", "the driver is too old"),
        ("WATCHPOST_SOFT_NVENC_VERSION", "7.1", "NVENC is of version 7.1", "the driver is too old"),
        ("WATCHPOST_SOFT_NVENC", "0", "out of memory (10)", "other programs have all its sessions"),
        ("WATCHPOST_SOFT_NVENC", "9", "and the driver gives a session", "its list may be from when"),
    ] {
        let (_, seen) = report(&nowhere, &soft(folder.path(), false).with(setting, value).environment());
        let (verdict, found) = only(&seen, "NVENC");
        assert!(
            verdict == "limited" && found.starts_with("0: none: GStreamer's nvcodec lists no encoder"),
            "{found}"
        );
        assert!(found.contains(said), "{setting}={value}: {found}");
        let advice_found = fix(&seen, "NVENC", "0: none");
        assert!(advice_found.starts_with(advice), "{setting}={value}: {advice_found}");
    }
    // A container has the driver's libraries for video only where it was started so.
    let (_, seen) = report(&nowhere, &Soft::new(folder.path()).with("container", "podman").environment());
    let advice = fix(&seen, "NVENC", "none: libnvidia-encode.so.1: ");
    assert!(advice.contains("NVIDIA_DRIVER_CAPABILITIES=compute,utility,video"), "{advice}");
}

/// A library that crashes takes along the process that tried it, and nothing else.
#[test]
fn a_codec_that_crashes_is_named_and_what_comes_after_is_tried() {
    let folder = tempfile::tempdir().unwrap();
    let file = stream(folder.path());
    let crashing = |name: &str| {
        let soft = soft(folder.path(), true).with("WATCHPOST_SOFT_NVENC", "3");
        report(&file, &soft.with("WATCHPOST_SOFT_CODEC_CRASH", name).environment())
    };
    let (code, seen) = crashing("nvh265enc");
    assert_eq!(code, Some(0), "streams run without it: {seen}");
    let nvenc = findings(&seen, "NVENC");
    assert_eq!(nvenc.len(), 4, "{nvenc:?}");
    assert!(nvenc[0].0 == "good" && nvenc[2].0 == "good" && nvenc[2].1.contains("nvav1enc"), "{nvenc:?}");
    let crashed = "0: encoding H.265: the process that tried it crashed (SIGSEGV)";
    assert!(nvenc[1].0 == "limited" && nvenc[1].1.starts_with(crashed), "{nvenc:?}");
    assert!(nvenc[3].1.starts_with("0: sessions: 3 at once"), "{nvenc:?}");
    assert!(fix(&seen, "NVENC", "H.265").contains("reinstall"), "{seen}");

    let (code, seen) = crashing("nvh264dec");
    let nvdec = findings(&seen, "NVDEC");
    assert_eq!(nvdec.len(), 3, "{nvdec:?}");
    assert!(nvdec[0].1.starts_with("0: H.264: nvh264dec: the process that tried it crashed"), "{nvdec:?}");
    assert!(nvdec[1].0 == "good" && nvdec[2].0 == "good", "{nvdec:?}");
    assert_eq!(findings(&seen, "NVENC").len(), 4, "the encoders are tried all the same: {seen}");
    // The stream would take the daemon along.
    let (verdict, found) = only(&seen, "source");
    assert!(verdict == "wrong" && found.contains("the process that tried it crashed"), "{found}");
    assert!(
        code == Some(1) && seen["streams"]["yard"]["stopped_by"] == serde_json::json!(["source"]),
        "{seen}"
    );
}
