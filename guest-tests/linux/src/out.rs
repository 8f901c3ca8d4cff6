//! Sending the files below `/out`.

use std::fs::{self, File};
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use tsmsim_abi::guest_channel::{FileHeader, MAX_PATH};
use tsmsim_abi::linux_guest::OUT;

use crate::channel::Channel;

/// How deep directories may lie in each other.
const MAX_DEPTH: usize = 16;

/// Sends everything below `/out`; what cannot be sent is told.
pub(crate) fn send(channel: &Channel) {
    send_below(channel, Path::new(OUT));
}

fn send_below(channel: &Channel, root: &Path) {
    if let Err((path, error)) = directory(channel, root, root, 0) {
        channel.log(&format!("{path} cannot be sent: {error}"));
    }
}

type Problem = (String, io::Error);

fn directory(channel: &Channel, root: &Path, path: &Path, depth: usize) -> Result<(), Problem> {
    let failed = |error| (path.display().to_string(), error);
    let mut entries = fs::read_dir(path).map_err(failed)?.collect::<Result<Vec<_>, _>>().map_err(failed)?;
    entries.sort_by_key(fs::DirEntry::file_name);
    for entry in entries {
        let path = entry.path();
        let kind = entry.file_type().map_err(failed)?;
        if kind.is_dir() && depth < MAX_DEPTH {
            directory(channel, root, &path, depth + 1)?;
        } else if kind.is_file() {
            file(channel, root, &path).map_err(|error| (path.display().to_string(), error))?;
        } else {
            channel.log(&format!("{} is not sent: only files in directories are", path.display()));
        }
    }
    Ok(())
}

fn file(channel: &Channel, root: &Path, path: &Path) -> io::Result<()> {
    let below = path.strip_prefix(root).map_err(io::Error::other)?;
    let name = below.as_os_str().as_bytes();
    if name.len() > MAX_PATH {
        return Err(io::Error::other("its path is too long"));
    }
    let mut file = File::open(path)?;
    let data = file.metadata()?;
    let header = FileHeader { mode: (data.permissions().mode() & 0o777).into(), size: data.len().into() };
    channel.file(name, header, &mut file)
}

#[cfg(test)]
mod tests {
    use tsmsim_abi::guest_channel::FrameType;

    use super::*;
    use crate::channel::tests::sent;

    #[test]
    fn files_go_in_order_and_links_are_told() {
        let root = tempfile::tempdir().unwrap();
        fs::create_dir(root.path().join("b")).unwrap();
        fs::write(root.path().join("b/c"), b"deep").unwrap();
        fs::write(root.path().join("a"), b"").unwrap();
        std::os::unix::fs::symlink("/etc/passwd", root.path().join("z")).unwrap();
        let frames = sent(|channel| send_below(channel, root.path()));
        let kinds: Vec<_> = frames.iter().map(|(kind, ..)| *kind).collect();
        assert_eq!(kinds, [FrameType::FILE, FrameType::FILE, FrameType::FILE_DATA, FrameType::LOG]);
        assert_eq!((&frames[0].2[12..], &frames[1].2[12..]), (&b"a"[..], &b"b/c"[..]));
        assert_eq!(frames[2].2, b"deep");
        assert!(String::from_utf8_lossy(&frames[3].2).contains("/z is not sent"));
    }

    #[test]
    fn a_missing_directory_is_told() {
        let frames = sent(|channel| send_below(channel, Path::new("/no/such/directory")));
        assert_eq!(frames[0].0, FrameType::LOG);
    }
}
