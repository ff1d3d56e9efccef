//! NVENC: which codecs each GPU encodes, how many sessions there are at once, and why not more.
//!
//! In: a GPU, the elements that GStreamer lists. Out: findings, with the words of the element and of the driver. Each codec
//! encodes a picture, as an output's would. Sessions are counted by opening them, since drivers allow them by a number that
//! nobody writes down. Runs in the process that tries video; a crash there is a finding of the one that started it.

use std::path::Path;

use super::finding::Finding;
use super::tries::{Tries, Went};
use crate::encode::{CudaEncoding, VideoCodec};
use crate::gpu::{Device, NoNvenc, ask_nvenc, loads};

/// Sessions that are opened at once at most.
const SESSIONS: usize = 16;
/// What happens without it.
const MEANWHILE: &str = "until then frames are downloaded and encoded by x264";

/// What a container must be given to have the driver's libraries for video.
const CONTAINER: &str = "this is a container: start it with NVIDIA_DRIVER_CAPABILITIES=compute,utility,video, for only then the driver's \
     libraries for video are in it";

/// A GPU's encoders.
struct Encoders {
    device: Device,
    encoding: CudaEncoding,
    /// Those that there is an element for.
    codecs: Vec<VideoCodec>,
}

/// What stands before all of NVENC.
pub(super) fn library() -> Option<Finding> {
    let why = loads("libnvidia-encode.so.1").err()?;
    let fix = format!("{}; {MEANWHILE}", libraries("apt install libnvidia-encode1"));
    Some(Finding::limited("NVENC", format!("none: {why}"), fix))
}

/// How to get the driver's libraries for video: `package` on a box; in a container the container is to be started anew.
pub(super) fn libraries(package: &str) -> String {
    let marks = ["/.dockerenv", "/run/.containerenv"].iter().any(|mark| Path::new(mark).exists());
    // systemd's convention, which Podman and LXC follow.
    let container = marks || std::env::var_os("container").is_some();
    if container { CONTAINER.to_owned() } else { package.to_owned() }
}

/// The encoders of one GPU, and how many sessions of them there can be at once. `busy`: the daemon runs.
pub(super) fn look(tries: &mut Tries, gpu: u32, busy: bool) {
    let mut asked = None;
    let went = tries.one("NVENC", &format!("the encoders of GPU {gpu}"), &[], || {
        asked = Some(encoders(gpu));
        Vec::new()
    });
    if went == Went::Badly {
        return;
    }
    let found = match asked.unwrap_or_else(|| encoders(gpu)) {
        Ok(found) => found,
        Err(why) => {
            let finding = Finding::limited("NVENC", format!("{gpu}: none: {why}"), "see GPU, above");
            tries.one("NVENC", "NVENC", &[], || vec![finding]);
            return;
        }
    };
    if found.codecs.is_empty() {
        tries.one("NVENC", &format!("{gpu}: a session of NVENC"), &[], || {
            vec![unlisted(gpu, ask_nvenc(&found.device))]
        });
        return;
    }
    for codec in &found.codecs {
        tries.one("NVENC", &format!("{gpu}: encoding {codec}"), &[], || {
            vec![match found.encoding.try_codec(*codec) {
                Ok(name) => Finding::good("NVENC", format!("{gpu}: {codec}: {name} encoded a picture")),
                Err(why) => refused(gpu, *codec, &why, ask_nvenc(&found.device).err().as_ref()),
            }]
        });
    }
    tries.one("NVENC", &format!("{gpu}: sessions"), &[], || {
        if busy {
            let found = format!("{gpu}: sessions: not counted while the daemon runs, which may need them");
            return vec![Finding::untried("NVENC", found).fix("systemctl stop watchpost, then again")];
        }
        let (opened, why) = found.encoding.count_sessions(found.codecs[0], SESSIONS);
        Vec::from_iter(sessions(gpu, opened, why))
    });
}

fn encoders(gpu: u32) -> Result<Encoders, String> {
    let device = Device::open(gpu).map_err(|error| error.to_string())?;
    let encoding = CudaEncoding::new(device.gstreamer().map_err(|error| error.to_string())?);
    let all = [VideoCodec::H264, VideoCodec::H265, VideoCodec::Av1];
    let codecs = all.into_iter().filter(|codec| encoding.may_encode(*codec).is_ok()).collect();
    Ok(Encoders { device, encoding, codecs })
}

/// GStreamer lists an encoder only where the driver gave it a session when it made its list; the driver says why not.
fn unlisted(gpu: u32, asked: Result<(), NoNvenc>) -> Finding {
    let none = format!("{gpu}: none: GStreamer's nvcodec lists no encoder");
    match asked {
        Err(reason) => {
            let fix = format!("{}; {MEANWHILE}", reason.advice());
            Finding::limited("NVENC", format!("{none}; the driver says: {reason}"), fix)
        }
        Ok(()) => {
            let fix = format!(
                "its list may be from when all sessions were taken: rm {}, as the user that the daemon runs as; or \
                 GStreamer is too old for this GPU; {MEANWHILE}",
                super::registry()
            );
            Finding::limited("NVENC", format!("{none}, and the driver gives a session"), fix)
        }
    }
}

/// An element that does not encode. `asked`: what the driver says just now, where it gives no session to us either.
fn refused(gpu: u32, codec: VideoCodec, why: &str, asked: Option<&NoNvenc>) -> Finding {
    let mut found = format!("{gpu}: {codec}: {why}");
    let said = NoNvenc::in_words(why);
    if let (None, Some(asked)) = (&said, asked) {
        found.push_str(&format!("; the driver says: {asked}"));
    }
    let fix = match said.as_ref().or(asked) {
        Some(reason) => format!("{}; {MEANWHILE}", reason.advice()),
        None => format!("GST_DEBUG=nv*:5 watchpost doctor says more; {MEANWHILE}"),
    };
    Finding::limited("NVENC", found, fix)
}

/// How many sessions there were at once, and why there was no further one; nothing where the codec itself was refused.
fn sessions(gpu: u32, opened: usize, why: Option<String>) -> Option<Finding> {
    let found = match (opened, why) {
        (0, _) => return None,
        (_, None) => Finding::good("NVENC", format!("{gpu}: sessions: {opened} at once, and perhaps more")),
        (_, Some(why)) => {
            let fix = "further outputs are encoded by x264; other programs' sessions count too (`nvidia-smi encodersessions`)";
            Finding::limited("NVENC", format!("{gpu}: sessions: {opened} at once; the next one: {why}"), fix)
        }
    };
    Some(found.details(serde_json::json!({ "gpu": gpu, "sessions": opened })))
}

#[cfg(test)]
mod tests {
    use super::super::Verdict;
    use super::*;

    #[test]
    fn each_reason_has_its_advice() {
        let fix = |finding: Finding| finding.fix.unwrap();
        let none = unlisted(1, Err(NoNvenc::Refused(2)));
        assert!(none.found.ends_with("the driver says: unsupported device (2)"), "{}", none.found);
        assert!(fix(none).starts_with("this GPU has no NVENC"));
        assert!(fix(unlisted(0, Err(NoNvenc::TooOld((7, 1))))).contains("install a newer one"));
        assert!(fix(unlisted(0, Ok(()))).contains("rm "));

        // The element's own words decide; the driver's where those say nothing.
        let words =
            "nvh264enc does not encode: Failed to open session, status: NV_ENC_ERR_OUT_OF_MEMORY (10)";
        let taken = refused(0, VideoCodec::H264, words, Some(&NoNvenc::Refused(2)));
        assert_eq!(taken.found, format!("0: H.264: {words}"));
        assert!(fix(taken).starts_with("other programs have all its sessions"));
        let vague = refused(0, VideoCodec::H264, "not negotiated", Some(&NoNvenc::Refused(21)));
        assert!(vague.found.ends_with("not negotiated; the driver says: incompatible client key (21)"));
        assert!(fix(vague).starts_with("other programs have all its sessions"));
        assert!(fix(refused(0, VideoCodec::Av1, "not negotiated", None)).starts_with("GST_DEBUG=nv*:5"));

        assert_eq!(sessions(0, 0, Some("refused".into())), None);
        assert_eq!(sessions(0, SESSIONS, None).unwrap().verdict, Verdict::Good);
        let few = sessions(0, 3, Some("out of memory (10)".into())).unwrap();
        assert_eq!(few.found, "0: sessions: 3 at once; the next one: out of memory (10)");
        assert_eq!(few.details.unwrap()["sessions"], 3);
    }
}
