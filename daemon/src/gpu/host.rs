//! Kernels on the CPU, for tests: the same sources, compiled as C++, run thread by thread.
//!
//! In: a kernel's name, a grid, arguments as bytes. Out: whatever the kernel writes. Compiled once a process, into a
//! folder that goes when the process does. Without a C++ compiler the tests that need one fail and say so: it is one
//! of the packages that `make setup` installs.
#![allow(unsafe_code)]

use std::ffi::c_void;
use std::process::Command;
use std::sync::LazyLock;

use libloading::{Library, Symbol};
use tempfile::TempDir;

use super::block::{Plain, bytes};

/// See kernels/common.h.
type Entry = unsafe extern "C" fn(u32, u32, u32, u32, u32, u32, *mut *mut c_void);

struct Kernels {
    libraries: Vec<Library>,
    _folder: TempDir,
}

static KERNELS: LazyLock<Kernels> = LazyLock::new(|| {
    let folder = TempDir::new().unwrap();
    let sources = concat!(env!("CARGO_MANIFEST_DIR"), "/src/gpu/kernels");
    let libraries = super::kernels::ALL.map(|module| {
        let library = folder.path().join(format!("{}.so", module.name));
        let source = format!("{sources}/{}.cu", module.name);
        compile(&source, library.to_str().unwrap());
        // SAFETY: the library is the one just made; it has no initialisers.
        unsafe { Library::new(&library) }.unwrap()
    });
    Kernels { libraries: libraries.into(), _folder: folder }
});

/// Warnings are errors: the sources must be clean for both compilers.
fn compile(source: &str, library: &str) {
    let flags = "-x c++ -std=c++14 -O2 -ffp-contract=off -fno-math-errno -Wall -Wextra -Werror -fPIC -shared";
    for compiler in ["c++", "g++", "clang++-14", "clang-14"] {
        let made = Command::new(compiler).args(flags.split(' ')).args([source, "-o", library]).output();
        match made {
            Ok(made) if made.status.success() => return,
            Ok(made) => panic!("{compiler} {source}: {}", String::from_utf8_lossy(&made.stderr)),
            Err(_) => {}
        }
    }
    panic!("no C++ compiler: install the package g++");
}

/// One argument of a kernel.
#[derive(Clone, Copy)]
pub struct Argument<'a>(&'a [u8]);

/// An argument of a kernel, as cuLaunchKernel takes it: a value that stays where it is until the kernel has run.
pub fn argument<T: Plain>(value: &T) -> Argument<'_> {
    Argument(bytes(std::slice::from_ref(value)))
}

/// Runs a kernel for at least as many threads along x, y and z, in blocks of 32 × 4.
///
/// # Panics
/// Where there is no such kernel or no compiler.
pub fn launch(kernel: &str, threads: [usize; 3], arguments: &[Argument<'_>]) {
    let name = format!("{kernel}__host");
    let [x, y, z] = threads.map(|count| count as u32);
    let mut params: Vec<*mut c_void> =
        arguments.iter().map(|argument| argument.0.as_ptr().cast_mut().cast()).collect();
    for library in &KERNELS.libraries {
        // SAFETY: every symbol that ends in `__host` is one that common.h's macro defined, of this type.
        let Ok(entry) = (unsafe { library.get::<Entry>(name.as_bytes()) }) else { continue };
        let entry: Symbol<'_, Entry> = entry;
        // SAFETY: the arguments are those of the kernel, as the test wrote them down from its source; kernels only read
        // them. Addresses in them are of memory that the test holds.
        unsafe { entry(x.div_ceil(32), y.div_ceil(4), z, 32, 4, 1, params.as_mut_ptr()) };
        return;
    }
    panic!("no kernel {kernel}");
}
