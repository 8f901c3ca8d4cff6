//! What is served besides configfs: the directories that lead there, device files, sysfs files.
//!
//! The tree looks like the root directory of a confidential guest, so that it can be served as a whole, and each part can
//! be bound to its place.

use std::path::{Component, Path, PathBuf};

use nix::errno::Errno;

use super::device::Device;

/// A file of sysfs.
pub trait SysfsFile: Send + Sync {
    /// Its permission bits.
    fn mode(&self) -> u16;

    /// Its size as `stat` shows it.
    fn size(&self) -> u64;

    /// Reads from an offset.
    ///
    /// # Errors
    /// What the reader is to see.
    fn read(&self, offset: u64, len: usize) -> Result<Vec<u8>, Errno>;

    /// Writes at an offset; gives the number of bytes taken.
    ///
    /// # Errors
    /// What the writer is to see; `EACCES` unless the file can be written.
    fn write(&self, offset: u64, data: &[u8]) -> Result<usize, Errno> {
        let _ = (offset, data);
        Err(Errno::EACCES)
    }
}

/// A file of sysfs whose bytes never change.
#[derive(Clone, Debug)]
pub struct FixedFile {
    bytes: Vec<u8>,
    mode: u16,
}

impl FixedFile {
    /// A file with these permission bits.
    #[must_use]
    pub const fn new(bytes: Vec<u8>, mode: u16) -> Self {
        Self { bytes, mode }
    }
}

impl SysfsFile for FixedFile {
    fn mode(&self) -> u16 {
        self.mode
    }

    fn size(&self) -> u64 {
        self.bytes.len() as u64
    }

    fn read(&self, offset: u64, len: usize) -> Result<Vec<u8>, Errno> {
        Ok(slice(&self.bytes, offset, len).to_vec())
    }
}

/// The part of a buffer that a read of a file sees.
#[must_use]
pub fn slice(bytes: &[u8], offset: u64, len: usize) -> &[u8] {
    let start = usize::try_from(offset).map_or(bytes.len(), |offset| offset.min(bytes.len()));
    &bytes[start..start.saturating_add(len).min(bytes.len())]
}

/// What a name stands for.
pub(super) enum Entry {
    /// A directory, by its names.
    Directory(Vec<(String, usize)>),
    /// A file of sysfs.
    File(Box<dyn SysfsFile>),
    /// A device file with its permission bits.
    Device(Box<dyn Device>, u16),
    /// A symbolic link.
    Symlink(PathBuf),
    /// The root of configfs.
    Configfs,
}

/// The tree. Its nodes are numbered from 0, the root, on.
pub struct Tree {
    nodes: Vec<Node>,
}

pub(super) struct Node {
    pub(super) entry: Entry,
    pub(super) parent: usize,
}

impl Default for Tree {
    fn default() -> Self {
        Self { nodes: vec![Node { entry: Entry::Directory(Vec::new()), parent: 0 }] }
    }
}

impl Tree {
    /// An empty one.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds a directory.
    pub fn add_directory(&mut self, path: impl AsRef<Path>) {
        self.directory(path.as_ref());
    }

    /// Adds a file of sysfs.
    pub fn add_file(&mut self, path: impl AsRef<Path>, file: impl SysfsFile + 'static) {
        self.add(path.as_ref(), Entry::File(Box::new(file)));
    }

    /// Adds a device file with these permission bits.
    pub fn add_device(&mut self, path: impl AsRef<Path>, device: Box<dyn Device>, mode: u16) {
        self.add(path.as_ref(), Entry::Device(device, mode));
    }

    /// Adds a symbolic link.
    pub fn add_symlink(&mut self, path: impl AsRef<Path>, target: impl Into<PathBuf>) {
        self.add(path.as_ref(), Entry::Symlink(target.into()));
    }

    /// Says where configfs is.
    pub(super) fn add_configfs(&mut self, path: impl AsRef<Path>) {
        self.add(path.as_ref(), Entry::Configfs);
    }

    /// Adds an entry; one that was there stays.
    fn add(&mut self, path: &Path, entry: Entry) {
        let Some(parent) = path.parent() else { return };
        let parent = self.directory(parent);
        if let Some(name) = path.file_name().and_then(|name| name.to_str()) {
            self.add_in(parent, name, entry);
        }
    }

    fn add_in(&mut self, parent: usize, name: &str, entry: Entry) -> usize {
        if let Some(there) = self.lookup(parent, name.as_bytes()) {
            return there;
        }
        let number = self.nodes.len();
        self.nodes.push(Node { entry, parent });
        if let Entry::Directory(children) = &mut self.nodes[parent].entry {
            children.push((name.to_owned(), number));
        }
        number
    }

    /// The directory of this path, with all that leads there.
    fn directory(&mut self, path: &Path) -> usize {
        let mut at = 0;
        for component in path.components() {
            if let Component::Normal(name) = component {
                at = self.add_in(at, &name.to_string_lossy(), Entry::Directory(Vec::new()));
            }
        }
        at
    }

    /// A node by its number.
    pub(super) fn node(&self, number: usize) -> Option<&Node> {
        self.nodes.get(number)
    }

    /// What a name stands for in a directory.
    pub(super) fn lookup(&self, parent: usize, name: &[u8]) -> Option<usize> {
        let Entry::Directory(children) = &self.nodes.get(parent)?.entry else { return None };
        children.iter().find(|(is, _)| is.as_bytes() == name).map(|(_, number)| *number)
    }
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;

    #[test]
    fn paths_lead_where_they_should() {
        let mut tree = Tree::new();
        tree.add_file("/sys/a/file", FixedFile::new(vec![1], 0o400));
        tree.add_symlink("/sys/a/link", "file");
        tree.add_directory("/sys/a");
        tree.add_configfs("/sys/kernel/config");
        let walk = |names: &[&str]| names.iter().try_fold(0, |at, name| tree.lookup(at, name.as_bytes()));
        let entry = |names: &[&str]| walk(names).and_then(|number| tree.node(number)).map(|node| &node.entry);
        assert!(matches!(entry(&["sys", "a", "file"]), Some(Entry::File(_))));
        assert!(matches!(entry(&["sys", "a", "link"]), Some(Entry::Symlink(_))));
        assert!(matches!(entry(&["sys", "kernel", "config"]), Some(Entry::Configfs)));
        assert_eq!(walk(&["sys", "b"]), None);
        assert_eq!(walk(&["sys", "a", "file", "x"]), None);
        assert_eq!(
            tree.node(walk(&["sys", "a"]).expect("it was added")).map(|node| node.parent),
            walk(&["sys"])
        );
    }

    #[rstest]
    #[case(0, 9, &[1, 2, 3])]
    #[case(1, 1, &[2])]
    #[case(3, 1, &[])]
    #[case(u64::MAX, usize::MAX, &[])]
    #[case(1, usize::MAX, &[2, 3])]
    fn reads_end_where_the_file_ends(#[case] offset: u64, #[case] len: usize, #[case] expected: &[u8]) {
        assert_eq!(slice(&[1, 2, 3], offset, len), expected);
        let file = FixedFile::new(vec![1, 2, 3], 0o444);
        assert_eq!(file.read(offset, len), Ok(expected.to_vec()));
        assert_eq!(file.write(0, &[1]), Err(Errno::EACCES));
    }
}
