//! Whether a library of the driver loads.
//!
//! In: its name, such as `libnvcuvid.so.1`. Out: nothing, or the loader's words, which name what is missing. Fails where
//! it, or a library it needs, is nowhere or broken. A library that crashes while it loads takes the process along: who
//! asks about a driver that may be broken asks in a process of its own.
#![allow(unsafe_code)]

/// Loads a library and lets it go again.
///
/// # Errors
/// The loader's words.
pub fn loads(name: &str) -> Result<(), String> {
    // SAFETY: runs the initialisers of one of the driver's own libraries, which GStreamer would load all the same;
    // nothing of it is used or kept.
    unsafe { libloading::Library::new(name) }.map(drop).map_err(|error| reason(&error))
}

/// The loader's own words, which are the error's cause.
pub(super) fn reason(error: &libloading::Error) -> String {
    std::error::Error::source(error).map_or_else(|| error.to_string(), ToString::to_string)
}

#[cfg(test)]
mod tests {
    #[test]
    fn a_library_that_is_nowhere_is_named() {
        let why = super::loads("libnowhere.so.7").unwrap_err();
        assert!(why.contains("libnowhere.so.7"), "{why}");
        super::loads("libc.so.6").unwrap();
    }
}
