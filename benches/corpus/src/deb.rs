//! Packages of Debian as files: an `ar` archive with two compressed tar archives. Nothing in them is run.

use std::collections::BTreeMap;
use std::io::{Cursor, Read};
use std::ops::Range;

use anyhow::{Context, Result, bail, ensure};

/// What a package may hold when it is unpacked; more is taken for damage.
const UNPACKED_LIMIT: u64 = 4 << 30;
/// What its control archive may hold.
const CONTROL_LIMIT: u64 = 64 << 20;

/// A package, unpacked in memory.
#[derive(Debug)]
pub struct Package {
    /// The stanza of the package itself.
    pub control: String,
    /// The other files of its control archive (lists, checksums, scripts), by name.
    pub information: BTreeMap<String, Vec<u8>>,
    /// What it installs, in the order of the archive.
    pub entries: Vec<Entry>,
    /// The archive that `Kind::File` points into.
    pub data: Vec<u8>,
}

/// One thing that a package installs.
#[derive(Debug)]
pub struct Entry {
    /// Path from the root, without a slash at either end, never with `..`. Empty for the root itself.
    pub path: Vec<u8>,
    /// What it is.
    pub kind: Kind,
    /// Permissions.
    pub mode: u32,
    /// Owner.
    pub user: u64,
    /// Group.
    pub group: u64,
    /// Seconds since 1970.
    pub modified: u64,
}

/// What an entry is.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Kind {
    /// A directory.
    Directory,
    /// A file: where its content is in the archive. A hard link has the place of what it is linked to.
    File(Range<usize>),
    /// A symbolic link, and its target as it stands.
    Symlink(Vec<u8>),
}

impl Package {
    /// Reads a `.deb`.
    pub fn parse(bytes: &[u8]) -> Result<Self> {
        let members = members(bytes)?;
        let find = |prefix: &str| {
            members
                .iter()
                .find(|(name, _)| name.starts_with(prefix))
                .with_context(|| format!("no member {prefix}*"))
        };
        ensure!(
            members.first().is_some_and(|(name, _)| name == "debian-binary"),
            "the first member is not debian-binary"
        );
        let (name, packed) = find("control.tar")?;
        let (control, information) =
            control(&unpack(name, packed, CONTROL_LIMIT)?).context("control archive")?;
        let (name, packed) = find("data.tar")?;
        let data = unpack(name, packed, UNPACKED_LIMIT)?;
        let entries = entries(&data).context("data archive")?;
        Ok(Self { control, information, entries, data })
    }

    /// What an archive alone would install.
    pub fn of_archive(data: Vec<u8>) -> Result<Self> {
        let entries = entries(&data)?;
        Ok(Self { control: String::new(), information: BTreeMap::new(), entries, data })
    }
}

/// Names and contents of an `ar` archive.
fn members(bytes: &[u8]) -> Result<Vec<(String, &[u8])>> {
    let mut rest = bytes.strip_prefix(b"!<arch>\n").context("not an ar archive")?;
    let mut members = Vec::new();
    while !rest.is_empty() {
        let (header, after) = rest.split_at_checked(60).context("an ar archive ends within a header")?;
        ensure!(header.ends_with(b"`\n"), "an ar header does not end as it should");
        let field = |range: Range<usize>| {
            let field = std::str::from_utf8(header.get(range).unwrap_or_default());
            field.map(str::trim_end).context("an ar header is not text")
        };
        let name = field(0..16)?.trim_end_matches('/').to_owned();
        let size = field(48..58)?;
        let size: usize = size.parse().with_context(|| format!("an ar member has no size, size={size:?}"))?;
        let (content, after) = after
            .split_at_checked(size)
            .with_context(|| format!("an ar archive ends within a member, member={name:?}"))?;
        members.push((name, content));
        rest = if size % 2 == 1 { after.get(1..).unwrap_or_default() } else { after };
    }
    Ok(members)
}

/// Decompresses a member by the end of its name.
fn unpack(name: &str, packed: &[u8], limit: u64) -> Result<Vec<u8>> {
    let reader: Box<dyn Read> = match name.rsplit_once(".tar").map(|(_, end)| end) {
        Some("") => Box::new(packed),
        Some(".gz") => Box::new(flate2::read::MultiGzDecoder::new(packed)),
        Some(".xz") => Box::new(liblzma::read::XzDecoder::new_multi_decoder(packed)),
        Some(".zst") => Box::new(zstd::Decoder::with_buffer(packed)?),
        _ => bail!("a member is compressed in a way that is not known, member={name:?}"),
    };
    let mut unpacked = Vec::new();
    reader.take(limit + 1).read_to_end(&mut unpacked).with_context(|| format!("damaged, member={name:?}"))?;
    ensure!(unpacked.len() as u64 <= limit, "a member is too large, member={name:?} limit={limit}");
    Ok(unpacked)
}

fn control(archive: &[u8]) -> Result<(String, BTreeMap<String, Vec<u8>>)> {
    let mut files = BTreeMap::new();
    for entry in tar::Archive::new(archive).entries()? {
        let mut entry = entry?;
        let path = clean(&entry.path_bytes())?;
        if entry.header().entry_type().is_dir() {
            continue;
        }
        let name = String::from_utf8(path).context("a name is not text")?;
        ensure!(!name.contains('/'), "a directory that is not expected, path={name:?}");
        let mut content = Vec::new();
        entry.read_to_end(&mut content)?;
        files.insert(name, content);
    }
    let control = files.remove("control").context("no control file")?;
    Ok((String::from_utf8(control).context("the control file is not text")?, files))
}

fn entries(archive: &[u8]) -> Result<Vec<Entry>> {
    let mut found: Vec<Entry> = Vec::new();
    let mut places: BTreeMap<Vec<u8>, Range<usize>> = BTreeMap::new();
    for entry in tar::Archive::new(Cursor::new(archive)).entries()? {
        let entry = entry?;
        let path = clean(&entry.path_bytes())?;
        let said = || format!("path={}", path.escape_ascii());
        let header = entry.header();
        let kind = match header.entry_type() {
            tar::EntryType::Directory => Kind::Directory,
            tar::EntryType::Regular | tar::EntryType::Continuous => {
                let start = usize::try_from(entry.raw_file_position())?;
                let end = start.checked_add(usize::try_from(entry.size())?).with_context(said)?;
                ensure!(end <= archive.len(), "a file ends beyond its archive, {}", said());
                places.insert(path.clone(), start..end);
                Kind::File(start..end)
            }
            tar::EntryType::Link => {
                let target = clean(&entry.link_name_bytes().with_context(said)?)?;
                let place = places
                    .get(&target)
                    .with_context(|| format!("a hard link to what is not there, {}", said()))?;
                Kind::File(place.clone())
            }
            tar::EntryType::Symlink => {
                Kind::Symlink(entry.link_name_bytes().with_context(said)?.into_owned())
            }
            // Says nothing of any file.
            tar::EntryType::XGlobalHeader => continue,
            other => bail!("neither file, directory nor link, type={other:?} {}", said()),
        };
        ensure!(!path.is_empty() || kind == Kind::Directory, "the root is no directory");
        let old = header.as_old();
        let (user, group) = (
            owner(&old.uid, header.uid()).with_context(said)?,
            owner(&old.gid, header.gid()).with_context(said)?,
        );
        let mode = header.mode().with_context(said)?;
        found.push(Entry { kind, mode: mode & 0o7777, user, group, modified: header.mtime()?, path });
    }
    Ok(found)
}

/// npm leaves the fields of owners empty.
fn owner(field: &[u8], value: std::io::Result<u64>) -> Result<u64> {
    if field.iter().all(|byte| [0, b' '].contains(byte)) { Ok(0) } else { Ok(value?) }
}

/// A path as it is below the root, or an error if it leads out of it.
pub fn clean(path: &[u8]) -> Result<Vec<u8>> {
    let mut cleaned: Vec<u8> = Vec::with_capacity(path.len());
    for part in path.split(|&byte| byte == b'/') {
        match part {
            b"" | b"." => {}
            b".." => bail!("a path leads out of its root, path={}", path.escape_ascii()),
            part if part.contains(&0) => bail!("a path has a zero byte, path={}", path.escape_ascii()),
            part => {
                if !cleaned.is_empty() {
                    cleaned.push(b'/');
                }
                cleaned.extend_from_slice(part);
            }
        }
    }
    Ok(cleaned)
}

#[cfg(test)]
pub(crate) mod tests {
    use std::io::Write;

    use super::*;

    /// An `ar` archive.
    pub(crate) fn ar(members: &[(&str, &[u8])]) -> Vec<u8> {
        let mut archive = b"!<arch>\n".to_vec();
        for (name, content) in members {
            writeln!(archive, "{name:<16}{:<12}{:<6}{:<6}{:<8}{:<10}`", 0, 0, 0, "100644", content.len())
                .expect("header");
            archive.extend_from_slice(content);
            if content.len() % 2 == 1 {
                archive.push(b'\n');
            }
        }
        archive
    }

    /// A tar archive whose paths are written as they are given, good or bad: path, type, target or content.
    pub(crate) fn tarball(entries: &[(&str, tar::EntryType, &str)]) -> Vec<u8> {
        let mut builder = tar::Builder::new(Vec::new());
        for (path, kind, text) in entries {
            let mut header = tar::Header::new_gnu();
            header.set_entry_type(*kind);
            header.set_mode(0o644);
            header.set_mtime(7);
            let content = if *kind == tar::EntryType::Regular { text.as_bytes() } else { &[] };
            header.set_size(content.len() as u64);
            let old = header.as_old_mut();
            old.name[..path.len()].copy_from_slice(path.as_bytes());
            if content.is_empty() {
                old.linkname[..text.len()].copy_from_slice(text.as_bytes());
            }
            header.set_cksum();
            builder.append(&header, content).expect("entry");
        }
        builder.into_inner().expect("archive")
    }

    pub(crate) fn deb(control: &str, data: &[u8]) -> Vec<u8> {
        let control = tarball(&[
            ("./control", tar::EntryType::Regular, control),
            ("./postinst", tar::EntryType::Regular, "exit 1"),
        ]);
        ar(&[("debian-binary", b"2.0\n"), ("control.tar", &control), ("data.tar", data)])
    }

    fn gz(bytes: &[u8]) -> Vec<u8> {
        let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::default());
        encoder.write_all(bytes).expect("gzip");
        encoder.finish().expect("gzip")
    }

    fn xz(bytes: &[u8]) -> Vec<u8> {
        let mut encoder = liblzma::write::XzEncoder::new(Vec::new(), 1);
        encoder.write_all(bytes).expect("xz");
        encoder.finish().expect("xz")
    }

    #[test]
    fn members_come_plain_and_through_every_compression() {
        use tar::EntryType::{Directory, Link, Regular, Symlink};
        let data = tarball(&[
            ("./", Directory, ""),
            ("./usr/", Directory, ""),
            ("./usr/a", Regular, "content"),
            ("./usr/b", Link, "./usr/a"),
            ("./usr/c", Symlink, "../../a"),
        ]);
        let control = tarball(&[("./control", Regular, "Package: a\n"), ("./md5sums", Regular, "0 a")]);
        let zst = |bytes: &[u8]| zstd::encode_all(bytes, 3).expect("zstd");
        for (end, data, control) in [
            ("", data.clone(), control.clone()),
            (".gz", gz(&data), gz(&control)),
            (".xz", xz(&data), xz(&control)),
            (".zst", zst(&data), zst(&control)),
        ] {
            let (data_name, control_name) = (format!("data.tar{end}"), format!("control.tar{end}/"));
            let deb = ar(&[("debian-binary", b"2.0\n"), (&control_name, &control), (&data_name, &data)]);
            let package = Package::parse(&deb).expect(end);
            assert_eq!(package.control, "Package: a\n");
            assert_eq!(package.information["md5sums"], b"0 a");
            let paths: Vec<_> = package.entries.iter().map(|entry| entry.path.as_slice()).collect();
            assert_eq!(paths, [&b""[..], b"usr", b"usr/a", b"usr/b", b"usr/c"]);
            assert_eq!(package.entries[2].kind, package.entries[3].kind);
            assert_eq!(package.entries[4].kind, Kind::Symlink(b"../../a".to_vec()));
            let Kind::File(place) = package.entries[3].kind.clone() else { panic!("a file") };
            assert_eq!(package.data[place], *b"content");
            assert_eq!((package.entries[2].mode, package.entries[2].modified), (0o644, 7));
        }
    }

    #[test]
    fn what_leads_out_of_the_root_is_refused() {
        use tar::EntryType::{Block, Fifo, Link, Regular};
        for (entry, word) in [
            (("../etc/passwd", Regular, ""), "leads out"),
            (("./usr/../../etc", Regular, ""), "leads out"),
            (("./a", Link, "../../etc/passwd"), "leads out"),
            (("./a", Link, "b"), "not there"),
            (("./a", Block, ""), "neither"),
            (("./a", Fifo, ""), "neither"),
            (("./", Regular, "x"), "root"),
        ] {
            let error = Package::parse(&deb("Package: a\n", &tarball(&[entry]))).expect_err("hostile");
            assert!(format!("{error:#}").contains(word), "{entry:?}: {error:#}");
        }
        assert_eq!(clean(b"//etc/./passwd").expect("absolute is below the root"), b"etc/passwd");
    }

    #[test]
    fn damage_is_an_error_wherever_it_is() {
        let whole = deb("Package: a\n", &tarball(&[("./a", tar::EntryType::Regular, "content")]));
        for cut in 0..whole.len() - 1024 {
            Package::parse(&whole[..cut]).expect_err("cut off");
        }
        for (at, byte) in [(0, b'x'), (66, b'x'), (8 + 48, b'x'), (8 + 48, b'9')] {
            let mut damaged = whole.clone();
            damaged[at] = byte;
            Package::parse(&damaged).expect_err("damaged");
        }
        let packed = ar(&[("debian-binary", b"2.0\n"), ("control.tar.lz", b""), ("data.tar", b"")]);
        assert!(Package::parse(&packed).expect_err("unknown").to_string().contains("not known"));
    }
}
