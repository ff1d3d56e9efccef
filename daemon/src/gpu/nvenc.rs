//! Whether NVENC gives a session, asked of the driver's own library.
//!
//! In: a GPU. Out: nothing, or [`NoNvenc`] with the driver's status. GStreamer lists no encoder where the driver gave it no
//! session when it made its list, and does not keep why: a GPU without NVENC, a driver that is too old and sessions that
//! others have all look the same to it. The session is given back at once. Only `doctor` asks, in a process of its own:
//! for a moment there is one session less for others.
#![allow(unsafe_code)]

use std::ffi::c_void;
use std::mem::ManuallyDrop;

use cudarc::driver::sys::{self, CUresult};
use libloading::Library;

use super::device::Device;
use super::error::GpuError;

const LIBRARY: &str = "libnvidia-encode.so.1";
/// The oldest version of its interface that GStreamer takes (1.22 to 1.28).
const OLDEST: (u32, u32) = (8, 1);
/// The newest whose structs these are known to be; drivers take older ones too.
const NEWEST: (u32, u32) = (12, 0);
/// `NV_ENC_DEVICE_TYPE_CUDA`.
const CUDA: u32 = 1;

/// Statuses that mean something to whoever reads them, by number and name (`NVENCSTATUS`).
const STATUSES: [(u32, &str); 11] = [
    (1, "no encode device"),
    (2, "unsupported device"),
    (3, "invalid encoder device"),
    (4, "invalid device"),
    (5, "device not exist"),
    (8, "invalid param"),
    (10, "out of memory"),
    (15, "invalid version"),
    (18, "encoder busy"),
    (20, "generic"),
    (21, "incompatible client key"),
];

/// Why there is no session.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NoNvenc {
    /// The library does not load, or is another one.
    #[error("{LIBRARY}: {0}")]
    Library(String),
    /// The driver is too old.
    #[error(
        "the driver's NVENC is of version {}.{}; GStreamer needs {}.{}",
        .0.0, .0.1, OLDEST.0, OLDEST.1
    )]
    TooOld((u32, u32)),
    /// CUDA does not work.
    #[error(transparent)]
    Gpu(#[from] GpuError),
    /// The driver refuses.
    #[error("{} ({})", name(*.0), .0)]
    Refused(u32),
}

impl NoNvenc {
    /// The refusal that an element's words are about: GStreamer's versions write the driver's status in several ways.
    #[must_use]
    pub fn in_words(words: &str) -> Option<Self> {
        let plain = words.to_lowercase().replace('_', " ");
        let found = STATUSES.iter().find(|(_, name)| plain.contains(&format!("{name} (")));
        let named = || STATUSES.iter().find(|(_, name)| plain.contains(&format!("nv enc err {name}")));
        found.or_else(named).map(|(code, _)| Self::Refused(*code))
    }

    /// What to do about it.
    #[must_use]
    pub fn advice(&self) -> &'static str {
        match self {
            Self::Library(_) => {
                "install the driver's library of encoders whole, of the driver's own version (Debian: libnvidia-encode1)"
            }
            Self::TooOld(_) | Self::Refused(15) => {
                "the driver is too old for this GStreamer: install a newer one"
            }
            Self::Gpu(_) => "mend what is said of the GPU above",
            Self::Refused(1 | 2) => {
                "this GPU has no NVENC (so A100, H100, H200 and some small ones): record by remuxing where that is enough"
            }
            // Drivers since 550 call it an incompatible key where a GeForce board's sessions are all taken.
            Self::Refused(10 | 21) => {
                "other programs have all its sessions (`nvidia-smi encodersessions`), or its memory is full: end one"
            }
            Self::Refused(18) => "it is busy: try again",
            Self::Refused(_) => "see `nvidia-smi` and `journalctl -k -g NVRM`; a restart of the box may help",
        }
    }
}

fn name(status: u32) -> &'static str {
    STATUSES.iter().find(|(code, _)| *code == status).map_or("status", |(_, name)| name)
}

/// `NV_ENCODE_API_FUNCTION_LIST`: all versions up to 13 are of this size, and have the two that are called in their places.
#[repr(C)]
struct Functions {
    version: u32,
    reserved: u32,
    functions: [*mut c_void; 318],
}

/// Places in the list.
const DESTROY: usize = 27;
const OPEN: usize = 29;

/// `NV_ENC_OPEN_ENCODE_SESSION_EX_PARAMS`.
#[repr(C)]
struct Session {
    version: u32,
    device_type: u32,
    device: sys::CUcontext,
    reserved: *mut c_void,
    api: u32,
    reserved1: [u32; 253],
    reserved2: [*mut c_void; 64],
}

type MaxVersion = unsafe extern "C" fn(*mut u32) -> u32;
type Create = unsafe extern "C" fn(*mut Functions) -> u32;
type Open = unsafe extern "C" fn(*mut Session, *mut *mut c_void) -> u32;
type Destroy = unsafe extern "C" fn(*mut c_void) -> u32;

fn check(status: u32) -> Result<(), NoNvenc> {
    if status == 0 { Ok(()) } else { Err(NoNvenc::Refused(status)) }
}

/// Opens a session on a GPU and gives it back.
///
/// # Errors
/// Why there is none.
pub fn ask_nvenc(device: &Device) -> Result<(), NoNvenc> {
    let failed = |error: libloading::Error| NoNvenc::Library(super::library::reason(&error));
    // SAFETY: runs the initialisers of the driver's own library, which GStreamer would load all the same. It stays loaded:
    // what it has started may outlive this call.
    let library = ManuallyDrop::new(unsafe { Library::new(LIBRARY) }.map_err(failed)?);
    // SAFETY: the function has this type in every version of the interface.
    let max_version =
        unsafe { library.get::<MaxVersion>(b"NvEncodeAPIGetMaxSupportedVersion\0") }.map_err(failed)?;
    // SAFETY: as above.
    let create = unsafe { library.get::<Create>(b"NvEncodeAPICreateInstance\0") }.map_err(failed)?;
    let mut packed = 0;
    // SAFETY: writes one number to where it is told.
    check(unsafe { max_version(&raw mut packed) })?;
    let has = (packed >> 4, packed & 0xf);
    if has < OLDEST {
        return Err(NoNvenc::TooOld(has));
    }
    let (major, minor) = has.min(NEWEST);
    let api = major | minor << 24;
    let version = |number: u32| api | number << 16 | 0x7 << 28;
    let mut list = Functions { version: version(2), reserved: 0, functions: [std::ptr::null_mut(); 318] };
    // SAFETY: the list has the size that its version says, and is only written during the call.
    check(unsafe { create(&raw mut list) })?;
    let (open, destroy) = (list.functions[OPEN], list.functions[DESTROY]);
    if open.is_null() || destroy.is_null() {
        return Err(NoNvenc::Library("lacks functions".to_owned()));
    }
    // SAFETY: what the library has put in these places are functions of these types, in every version of the interface.
    let (open, destroy) = unsafe {
        (std::mem::transmute::<*mut c_void, Open>(open), std::mem::transmute::<*mut c_void, Destroy>(destroy))
    };
    let mut session = Session {
        version: version(1),
        device_type: CUDA,
        device: device.context(),
        reserved: std::ptr::null_mut(),
        api,
        reserved1: [0; 253],
        reserved2: [std::ptr::null_mut(); 64],
    };
    let mut status = 0;
    device.call("nvEncOpenEncodeSessionEx", || {
        let mut encoder = std::ptr::null_mut();
        // SAFETY: both are only used during the call; the context is current, and lives as long as the device.
        status = unsafe { open(&raw mut session, &raw mut encoder) };
        // A session that was refused may have to be given back all the same, says NVIDIA.
        if !encoder.is_null() {
            // SAFETY: just given by the library, and used by nobody.
            unsafe { destroy(encoder) };
        }
        CUresult::CUDA_SUCCESS
    })?;
    check(status)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::gpu::soft::{self, child};

    #[test]
    fn the_structs_are_as_large_as_nvidias() {
        assert_eq!((size_of::<Functions>(), size_of::<Session>()), (2552, 1552));
    }

    #[test]
    fn a_refusal_is_recognised_in_what_elements_write() {
        let refused = |words| NoNvenc::in_words(words);
        assert_eq!(
            refused("Failed to open session, status: NV_ENC_ERR_OUT_OF_MEMORY (10)"),
            Some(NoNvenc::Refused(10))
        );
        assert_eq!(
            refused("NvEnc API call failed: 0x2, NV_ENC_ERR_UNSUPPORTED_DEVICE"),
            Some(NoNvenc::Refused(2))
        );
        assert_eq!(refused("incompatible client key (21)"), Some(NoNvenc::Refused(21)));
        assert_eq!(refused("out of memory while linking"), None);
        assert_eq!(NoNvenc::Refused(10).to_string(), "out of memory (10)");
        assert_eq!(NoNvenc::Refused(99).to_string(), "status (99)");
        let advice = [1, 10, 15, 18, 20].map(|status| NoNvenc::Refused(status).advice());
        let different: std::collections::BTreeSet<_> = advice.iter().collect();
        assert_eq!(different.len(), 5, "{advice:?}");
    }

    #[test]
    fn nvenc_is_asked_for_a_session_which_is_given_back() {
        let encode = soft::encode();
        for (setting, value, expected) in [
            ("WATCHPOST_SOFT_NVENC", "1", "Ok(())"),
            ("WATCHPOST_SOFT_NVENC", "0", "Err(Refused(10))"),
            ("WATCHPOST_SOFT_NVENC_STATUS", "2", "Err(Refused(2))"),
            ("WATCHPOST_SOFT_NVENC_VERSION", "7.1", "Err(TooOld((7, 1)))"),
            ("LD_LIBRARY_PATH", &soft::libraries(), "Err(Library("),
        ] {
            let libraries = if setting == "LD_LIBRARY_PATH" { value } else { &encode };
            let environment = [("LD_LIBRARY_PATH", libraries), (setting, value), ("EXPECTED", expected)];
            if child(module_path!(), "nvenc_is_asked_for_a_session_which_is_given_back", &environment) {
                let expected = std::env::var("EXPECTED").unwrap();
                cudarc::driver::result::init().unwrap();
                let device = Device::open(0).unwrap();
                for _ in 0..3 {
                    let said = format!("{:?}", ask_nvenc(&device));
                    assert!(said.starts_with(&expected), "{said}");
                }
                return;
            }
        }
    }
}
