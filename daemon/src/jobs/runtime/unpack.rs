//! The libraries out of an archive.
//!
//! In: a wheel whose hash was checked, and which members are wanted. Out: those, by their bare names, in one folder,
//! each with its SHA-256. Paths in the archive choose members and never places: a name goes nowhere but into the folder.
//! What goes wrong leaves files that the next try writes anew.

use std::fs::{File, OpenOptions};
use std::io::{BufReader, Read, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use anyhow::{Context, bail, ensure};
use sha2::{Digest, Sha256};
use zip::ZipArchive;

use super::manifest::{Archive, matches};
use super::progress;
use super::record::{FileRecord, hex};
use super::space;

/// Takes the wanted members of `part` out into `folder`.
///
/// # Errors
/// Where it is no zip file, lacks a member, or a file cannot be written.
pub fn unpack(archive: &Archive, part: &Path, folder: &Path) -> anyhow::Result<Vec<FileRecord>> {
    let file = File::open(part).with_context(|| part.display().to_string())?;
    let mut zip = ZipArchive::new(BufReader::new(file))
        .with_context(|| format!("{}: is no zip file that can be read", archive.file))?;
    let wanted = choose(archive, &mut zip)?;
    let size = wanted.iter().map(|(_, _, size)| *size).sum();
    space::ensure_free(folder, size)?;
    let bar = progress::bar(&format!("unpacking {}", archive.file), size);
    let mut records = Vec::new();
    for (index, name, size) in wanted {
        let mut member = zip.by_index(index).with_context(|| format!("{}: {name}", archive.file))?;
        let path = folder.join(&name);
        let record = copy(&mut member, &path, |bytes| bar.inc(bytes)).with_context(|| {
            format!("{}: {name} cannot be unpacked to {}", archive.file, folder.display())
        })?;
        ensure!(
            record.1 == size,
            "{}: {name} is cut off: {} of {size} bytes; it is damaged",
            archive.file,
            record.1
        );
        records.push(FileRecord { name, sha256: record.0, size, from: PathBuf::from(&archive.file) });
    }
    bar.finish_and_clear();
    Ok(records)
}

/// Index, bare name and bytes of each wanted member.
fn choose<R: Read + std::io::Seek>(
    archive: &Archive,
    zip: &mut ZipArchive<R>,
) -> anyhow::Result<Vec<(usize, String, u64)>> {
    let mut wanted: Vec<(usize, String, u64)> = Vec::new();
    let mut met = vec![false; archive.members.len()];
    for index in 0..zip.len() {
        let entry = zip.by_index_raw(index).with_context(|| format!("{}: is damaged", archive.file))?;
        let Ok(path) = entry.name() else { continue };
        let hit = archive.members.iter().position(|pattern| matches(pattern, &path));
        let Some(hit) = hit.filter(|_| entry.is_file()) else { continue };
        met[hit] = true;
        let name = path.rsplit('/').next().unwrap_or_default().to_owned();
        // What the pattern leaves open may still be anything.
        let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.' | '+');
        ensure!(
            name.starts_with("lib") && name.chars().all(plain),
            "{}: \"{path}\" is no library's name",
            archive.file
        );
        ensure!(!wanted.iter().any(|(_, other, _)| *other == name), "{}: holds {name} twice", archive.file);
        wanted.push((index, name, entry.size()));
    }
    if let Some(lacks) = met.iter().position(|met| !met) {
        bail!(
            "{}: holds no {}; the manifest does not fit this archive",
            archive.file,
            archive.members[lacks]
        );
    }
    Ok(wanted)
}

/// Writes what comes into a file and to disk; gives its SHA-256 and bytes.
///
/// # Errors
/// Where it cannot be read or written.
pub fn copy(from: &mut impl Read, path: &Path, mut seen: impl FnMut(u64)) -> std::io::Result<(String, u64)> {
    let mut file = OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(true)
        .mode(0o644)
        .custom_flags(rustix::fs::OFlags::NOFOLLOW.bits().cast_signed())
        .open(path)?;
    let mut hasher = Sha256::new();
    let mut buffer = vec![0; 1 << 20];
    let mut size = 0;
    loop {
        let count = from.read(&mut buffer)?;
        if count == 0 {
            file.sync_all()?;
            return Ok((hex(hasher), size));
        }
        file.write_all(&buffer[..count])?;
        hasher.update(&buffer[..count]);
        size += count as u64;
        seen(count as u64);
    }
}

#[cfg(test)]
mod tests {
    use std::io::Cursor;

    use zip::write::SimpleFileOptions;

    use super::*;

    fn wheel(folder: &Path, members: &[(&str, &[u8])]) -> PathBuf {
        let mut zip = zip::ZipWriter::new(Cursor::new(Vec::new()));
        for (name, content) in members {
            zip.start_file(*name, SimpleFileOptions::default()).unwrap();
            zip.write_all(content).unwrap();
        }
        let path = folder.join("x.part");
        std::fs::write(&path, zip.finish().unwrap().into_inner()).unwrap();
        path
    }

    fn archive(members: &[&str]) -> Archive {
        Archive {
            file: "x-1.whl".into(),
            sha256: String::new(),
            size: 1,
            unpacked: 1,
            members: members.iter().map(|member| (*member).to_owned()).collect(),
        }
    }

    #[test]
    fn wanted_members_come_out_by_their_bare_names() {
        let folder = tempfile::tempdir().unwrap();
        let part = wheel(
            folder.path(),
            &[("a/lib/libx.so.1", b"one"), ("a/lib/libx_ops.so.1", b"ops"), ("a/__init__.py", b"no")],
        );
        let out = folder.path().join("out");
        std::fs::create_dir(&out).unwrap();
        let found = unpack(&archive(&["a/lib/libx.so.1", "a/lib/libx_*.so.1"]), &part, &out).unwrap();
        assert_eq!(found.len(), 2);
        assert_eq!(std::fs::read(out.join("libx_ops.so.1")).unwrap(), b"ops");
        assert_eq!(std::fs::read_dir(&out).unwrap().count(), 2);
        assert_eq!(
            found[0].sha256,
            crate::jobs::runtime::record::hash(&out.join("libx.so.1"), |_| ()).unwrap().0
        );
    }

    #[test]
    fn a_name_leads_nowhere_but_into_the_folder() {
        let folder = tempfile::tempdir().unwrap();
        let out = folder.path().join("out");
        std::fs::create_dir(&out).unwrap();
        for (member, pattern, expected) in [
            ("../../libx.so", "../../libx.so", None),
            ("/etc/libx.so", "/etc/libx.so", None),
            ("a/..", "a/*", Some("\"a/..\" is no library's name")),
            ("a/lib\u{0}x.so", "a/*", Some("is no library's name")),
            ("a/passwd", "a/*", Some("is no library's name")),
        ] {
            let part = wheel(folder.path(), &[(member, b"evil")]);
            match (unpack(&archive(&[pattern]), &part, &out), expected) {
                (Ok(found), None) => assert_eq!(found[0].name, "libx.so", "{member}"),
                (Err(error), Some(expected)) => {
                    let error = format!("{error:#}");
                    assert!(error.contains(expected), "{member}: {error}");
                }
                (other, _) => panic!("{member}: {other:?}"),
            }
        }
        let inside: Vec<_> =
            std::fs::read_dir(&out).unwrap().map(|entry| entry.unwrap().file_name()).collect();
        assert_eq!(inside, ["libx.so"]);
        assert!(!folder.path().join("libx.so").exists());
    }

    #[test]
    fn a_link_in_the_way_is_not_followed() {
        let folder = tempfile::tempdir().unwrap();
        let out = folder.path().join("out");
        std::fs::create_dir(&out).unwrap();
        std::os::unix::fs::symlink(folder.path().join("elsewhere"), out.join("libx.so")).unwrap();
        let part = wheel(folder.path(), &[("libx.so", b"evil")]);
        unpack(&archive(&["libx.so"]), &part, &out).unwrap_err();
        assert!(!folder.path().join("elsewhere").exists());
    }

    #[test]
    fn what_is_not_in_it_and_what_is_twice_is_named() {
        let folder = tempfile::tempdir().unwrap();
        let part = wheel(folder.path(), &[("a/libx.so", b"1"), ("b/libx.so", b"2")]);
        let error =
            |members: &[&str]| format!("{:#}", unpack(&archive(members), &part, folder.path()).unwrap_err());
        assert!(error(&["a/libx.so", "a/liby.so"]).contains("x-1.whl: holds no a/liby.so"));
        assert!(error(&["*/libx.so"]).contains("x-1.whl: holds libx.so twice"));
        std::fs::write(&part, b"<html>").unwrap();
        assert!(error(&["a/libx.so"]).contains("x-1.whl: is no zip file"));
    }
}
