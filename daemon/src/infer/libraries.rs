//! What shared libraries need, read from their files without loading them.
//!
//! In: folders with libraries. Out: where each name is, and all that some of them need, in the order in which it can be
//! loaded. Nothing is executed. A file that is no library for this machine counts as absent; so does a folder that
//! cannot be read.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::ffi::OsStr;
use std::fs::File;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use object::elf::{DT_NEEDED, DT_RPATH, DT_RUNPATH, DT_SONAME, DT_STRSZ, DT_STRTAB, FileHeader64};
use object::read::elf::{Dyn as _, FileHeader as _, ProgramHeader as _};
use object::{Endianness, ReadCache, StringTable};

/// What libraries open by name while they run, so that it is not in their list of needs: the library that does so, and
/// how the names begin. ONNX Runtime's CUDA provider needs cuDNN from its start up to 1.27, and opens it later since.
const OPENED_LATER: &[(&str, &[&str])] = &[
    ("libonnxruntime_providers_cuda.so", &["libcudnn.so.", "libcufft.so.", "libnvrtc.so."]),
    ("libcudnn.so.", &["libcudnn_", "libnvrtc.so."]),
    ("libcufft.so.", &["libnvJitLink.so."]),
    ("libnvrtc.so.", &["libnvrtc-builtins.so."]),
    ("libnvinfer.so.", &["libnvinfer_builder_resource"]),
];

/// The libraries above that come in one version for each version of CUDA.
const OF_CUDA: &[&str] = &["libnvrtc", "libnvJitLink"];

/// What a library's file says of it.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Library {
    /// Its own name, which others ask for.
    pub soname: Option<String>,
    /// The names of what it needs.
    pub needed: Vec<String>,
    /// Where it wants its needs to be looked for.
    pub paths: Vec<PathBuf>,
}

impl Library {
    /// Reads a file; `None` where it is no 64-bit library for this machine.
    #[must_use]
    pub fn read(file: &Path) -> Option<Self> {
        let data = &ReadCache::new(File::open(file).ok()?);
        let header = FileHeader64::<Endianness>::parse(data).ok()?;
        let endian = header.endian().ok()?;
        if header.e_machine(endian) != machine()? || header.e_type(endian) != object::elf::ET_DYN {
            return None;
        }
        let segments = header.program_headers(endian, data).ok()?;
        let entries = segments.iter().find_map(|segment| segment.dynamic(endian, data).ok().flatten())?;
        let entries: Vec<(i64, u64)> = entries
            .iter()
            .map(|entry| (entry.tag(endian), entry.val(endian)))
            .take_while(|(tag, _)| *tag != object::elf::DT_NULL)
            .collect();
        let value = |wanted: i64| entries.iter().find(|(tag, _)| *tag == wanted).map(|(_, value)| *value);
        // The table's place is an address; the segment that holds it says where that is in the file.
        let (address, length) = (value(DT_STRTAB)?, value(DT_STRSZ)?);
        let start = segments.iter().find_map(|segment| {
            let inside = address.checked_sub(segment.p_vaddr(endian))?;
            let loaded = segment.p_type(endian) == object::elf::PT_LOAD;
            (loaded && inside < segment.p_filesz(endian)).then(|| segment.p_offset(endian) + inside)
        })?;
        let strings = StringTable::new(data, start, start.checked_add(length)?);
        let text = |offset: u64| Some(strings.get(offset.try_into().ok()?).ok()?.to_vec());
        let texts = |wanted: i64| {
            entries.iter().filter(move |(tag, _)| *tag == wanted).filter_map(|(_, offset)| text(*offset))
        };
        let name = |bytes: Vec<u8>| String::from_utf8(bytes).ok();
        let origin = file.parent().unwrap_or(Path::new("."));
        let paths = texts(DT_RUNPATH).chain(texts(DT_RPATH)).flat_map(|list| places(&list, origin)).collect();
        Some(Self {
            soname: texts(DT_SONAME).find_map(name),
            needed: texts(DT_NEEDED).filter_map(name).collect(),
            paths,
        })
    }
}

/// The folders of a list such as `$ORIGIN:/opt/lib`.
fn places(list: &[u8], origin: &Path) -> Vec<PathBuf> {
    list.split(|byte| *byte == b':')
        .filter(|place| !place.is_empty())
        .map(|place| {
            let text = place.strip_prefix(b"$ORIGIN").or(place.strip_prefix(b"${ORIGIN}"));
            match text.map(|rest| rest.strip_prefix(b"/").unwrap_or(rest)) {
                Some(rest) => origin.join(OsStr::from_bytes(rest)),
                None => PathBuf::from(OsStr::from_bytes(place)),
            }
        })
        .collect()
}

/// This machine, as files name it.
fn machine() -> Option<u16> {
    match std::env::consts::ARCH {
        "x86_64" => Some(object::elf::EM_X86_64),
        "aarch64" => Some(object::elf::EM_AARCH64),
        _ => None,
    }
}

/// Folders in which libraries are looked for: every file whose name is a library's, by that name.
#[derive(Debug, Clone, Default)]
pub struct Shelf(BTreeMap<String, Vec<PathBuf>>);

impl Shelf {
    /// Looks through folders and, `depth` levels deep, those in them. An earlier folder wins on the same name, and what
    /// lies less deep. Folders named `stubs` are left out: what CUDA's toolkit keeps there is only for linkers.
    #[must_use]
    pub fn new(folders: &[PathBuf], depth: usize) -> Self {
        let mut shelf = Self::default();
        for folder in folders {
            let mut waiting = VecDeque::from([(folder.clone(), depth)]);
            while let Some((folder, depth)) = waiting.pop_front() {
                let Ok(entries) = std::fs::read_dir(&folder) else { continue };
                let mut entries: Vec<_> = entries.filter_map(Result::ok).collect();
                entries.sort_by_key(std::fs::DirEntry::file_name);
                for entry in entries {
                    let name = entry.file_name().to_string_lossy().into_owned();
                    // What a link names is not gone into, so that no loop is.
                    if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
                        if depth > 0 && name != "stubs" {
                            waiting.push_back((entry.path(), depth - 1));
                        }
                    } else if name.starts_with("lib") && name.contains(".so") && entry.path().is_file() {
                        shelf.0.entry(name).or_default().push(entry.path());
                    }
                }
            }
        }
        shelf
    }

    /// The library of that file name.
    #[must_use]
    pub fn find(&self, name: &str) -> Option<(PathBuf, Library)> {
        self.0.get(name)?.iter().find_map(|file| Some((file.clone(), Library::read(file)?)))
    }

    /// File names that begin so.
    pub fn names(&self, prefix: &str) -> impl Iterator<Item = &str> {
        self.0
            .range(prefix.to_owned()..)
            .map(|(name, _)| name.as_str())
            .take_while(move |name| name.starts_with(prefix))
    }
}

/// All that some libraries need.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Needs {
    /// What is there, by the name it is asked for: each after what it needs itself.
    pub found: Vec<(String, PathBuf)>,
    /// What is neither on the shelf nor where those that need it say: the system's, or missing.
    pub elsewhere: BTreeSet<String>,
}

impl Needs {
    /// Follows what `roots` need, and what that needs, and what it opens later. The roots themselves are left out.
    #[must_use]
    pub fn of(roots: &[PathBuf], shelf: &Shelf) -> Self {
        let mut needs = Self::default();
        let mut seen = BTreeSet::new();
        let mut openers = Vec::new();
        for root in roots {
            if let Some(library) = Library::read(root) {
                needs.follow(&library, shelf, &mut seen);
                openers.extend(root.file_name().map(|name| name.to_string_lossy().into_owned()));
            }
        }
        // What is opened later may need and open further ones.
        let mut looked = 0;
        while looked < openers.len() + needs.found.len() {
            let opener = openers.get(looked).unwrap_or_else(|| &needs.found[looked - openers.len()].0);
            let opened = needs.opened_by(opener, shelf);
            looked += 1;
            for name in opened {
                needs.add(&name, &[], shelf, &mut seen);
            }
        }
        needs
    }

    fn follow(&mut self, library: &Library, shelf: &Shelf, seen: &mut BTreeSet<String>) {
        for name in &library.needed {
            self.add(name, &library.paths, shelf, seen);
        }
    }

    fn add(&mut self, name: &str, paths: &[PathBuf], shelf: &Shelf, seen: &mut BTreeSet<String>) {
        if !seen.insert(name.to_owned()) {
            return;
        }
        let beside = |folder: &PathBuf| {
            let file = folder.join(name);
            Library::read(&file).map(|library| (file, library))
        };
        match shelf.find(name).or_else(|| paths.iter().find_map(beside)) {
            Some((file, library)) => {
                self.follow(&library, shelf, seen);
                self.found.push((name.to_owned(), file));
            }
            None => {
                self.elsewhere.insert(name.to_owned());
            }
        }
    }

    /// What a library opens by name while it runs.
    fn opened_by(&self, name: &str, shelf: &Shelf) -> Vec<String> {
        let prefixes = OPENED_LATER.iter().filter(|(opener, _)| name.starts_with(opener));
        let wanted = prefixes.flat_map(|(_, prefixes)| *prefixes);
        wanted
            .flat_map(|prefix| shelf.names(prefix))
            // Of a library's several names, the one that it is asked for by.
            .filter(|name| {
                shelf.find(name).is_some_and(|(_, library)| library.soname.as_deref() == Some(*name))
            })
            .filter(|name| !OF_CUDA.iter().any(|of| name.starts_with(of)) || self.fits_cuda(name))
            .map(str::to_owned)
            .collect()
    }

    /// Whether a library is of the CUDA that the others are of, where that is known.
    fn fits_cuda(&self, name: &str) -> bool {
        let cuda = |prefix: &str| self.found.iter().find_map(|(found, _)| found.strip_prefix(prefix));
        let known = cuda("libcudart.so.").or_else(|| cuda("libcublas.so.")).map(major);
        let own = name.split(".so.").nth(1).map(major);
        known.is_none() || known == own
    }
}

/// `13` of `13.0`.
fn major(version: &str) -> &str {
    version.split('.').next().unwrap_or(version)
}
