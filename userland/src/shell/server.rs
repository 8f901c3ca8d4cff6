//! The nodes of the file system: numbers, attributes, and in which order what is done to them.

use std::{
    io,
    sync::{Arc, OnceLock},
    time::{Duration, SystemTime},
};

use fuser::{FileAttr, FileType, INodeNo, Notifier};
use nix::{
    errno::Errno,
    unistd::{getegid, geteuid},
};

use super::{
    tree::{Entry, Tree},
    worker::Worker,
};
use crate::configfs::{Configfs, Node, Stat};

/// How long the kernel may keep what it was told: nothing here changes but through it.
pub(super) const TTL: Duration = Duration::from_secs(24 * 60 * 60);

/// Inode numbers up to this one are the tree's; behind it come those of configfs.
const CONFIGFS_BASE: u64 = 0xffff;

/// What a request is about.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Target {
    /// A node of the tree.
    Tree(usize),
    /// A node of configfs.
    Configfs(Node),
}

impl Target {
    /// The target of an inode number.
    pub(super) fn from_ino(ino: INodeNo) -> Result<Self, Errno> {
        match ino.0.checked_sub(CONFIGFS_BASE) {
            None | Some(0) => {
                let number = ino.0.checked_sub(1).and_then(|number| usize::try_from(number).ok());
                number.map(Self::Tree).ok_or(Errno::ENOENT)
            }
            Some(node) => Node::from_ino(node).map(Self::Configfs).ok_or(Errno::ESTALE),
        }
    }

    /// Its inode number.
    pub(super) fn ino(self) -> INodeNo {
        INodeNo(match self {
            Self::Tree(number) => number as u64 + 1,
            Self::Configfs(node) => CONFIGFS_BASE + node.ino(),
        })
    }
}

/// A name in a directory.
pub(super) struct Name {
    pub(super) name: Vec<u8>,
    pub(super) target: Target,
    pub(super) kind: FileType,
    /// Where reading goes on behind it.
    pub(super) cookie: u64,
}

/// What the threads share.
pub(super) struct Shared {
    pub(super) configfs: Arc<Configfs>,
    pub(super) tree: Tree,
    uid: u32,
    gid: u32,
    started: SystemTime,
    /// For telling the kernel what it cannot know.
    notifier: OnceLock<Notifier>,
}

/// The file system.
pub(super) struct Server {
    pub(super) shared: Arc<Shared>,
    /// For operations on attributes of configfs: Linux has one lock for them, `tsm_rwsem`.
    attributes: Worker,
    /// For device files and sysfs files.
    devices: Worker,
}

impl Server {
    pub(super) fn new(configfs: Arc<Configfs>, tree: Tree) -> io::Result<Self> {
        let shared = Shared {
            configfs,
            tree,
            uid: geteuid().as_raw(),
            gid: getegid().as_raw(),
            started: SystemTime::now(),
            notifier: OnceLock::new(),
        };
        Ok(Self {
            shared: Arc::new(shared),
            attributes: Worker::start("tsmsim-configfs")?,
            devices: Worker::start("tsmsim-devices")?,
        })
    }

    /// What the kernel will be told through, once there is a session.
    pub(super) fn shared(&self) -> Arc<Shared> {
        Arc::clone(&self.shared)
    }

    /// Does something with configfs: here and now, or if it may take long, or something that does is still on its way, after
    /// what was asked for before.
    pub(super) fn in_order(&self, may_wait: bool, job: impl FnOnce(&Shared) + Send + 'static) {
        if may_wait || !self.attributes.is_idle() {
            let shared = Arc::clone(&self.shared);
            self.attributes.submit(move || job(&shared));
        } else {
            job(&self.shared);
        }
    }

    /// Does something with a driver, after what was asked of drivers before.
    pub(super) fn with_driver(&self, job: impl FnOnce(&Shared) + Send + 'static) {
        let shared = Arc::clone(&self.shared);
        self.devices.submit(move || job(&shared));
    }
}

impl Shared {
    /// The entry of a node of the tree.
    pub(super) fn entry(&self, number: usize) -> Result<&Entry, Errno> {
        self.tree.node(number).map(|node| &node.entry).ok_or(Errno::ENOENT)
    }

    /// The target of a node of the tree: where configfs is, its root.
    fn of_tree(&self, number: usize) -> Target {
        match self.entry(number) {
            Ok(Entry::Configfs) => Target::Configfs(Node::Root),
            _ => Target::Tree(number),
        }
    }

    /// What a name stands for.
    pub(super) fn lookup(&self, parent: Target, name: &[u8]) -> Result<Target, Errno> {
        match parent {
            Target::Tree(number) => {
                let child = self.tree.lookup(number, name).ok_or(Errno::ENOENT)?;
                Ok(self.of_tree(child))
            }
            Target::Configfs(node) => self.configfs.lookup(node, name).map(Target::Configfs),
        }
    }

    /// The attributes of a node.
    pub(super) fn attributes(&self, target: Target) -> Result<FileAttr, Errno> {
        match target {
            Target::Tree(number) => self.tree_attributes(number),
            Target::Configfs(node) => self.configfs.stat(node).map(|stat| self.configfs_attributes(&stat)),
        }
    }

    fn tree_attributes(&self, number: usize) -> Result<FileAttr, Errno> {
        let (kind, perm, size) = match self.entry(number)? {
            Entry::Directory(_) | Entry::Configfs => (FileType::Directory, 0o755, 0),
            Entry::File(file) => (FileType::RegularFile, file.mode(), file.size()),
            Entry::Device(_, mode) => (FileType::RegularFile, *mode, 0),
            Entry::Symlink(target) => (FileType::Symlink, 0o777, target.as_os_str().len() as u64),
        };
        let nlink = if kind == FileType::Directory { 2 } else { 1 };
        Ok(self.attr(Target::Tree(number), kind, perm, size, nlink))
    }

    /// Attributes of configfs; what root owns belongs to whoever runs the session.
    pub(super) fn configfs_attributes(&self, stat: &Stat) -> FileAttr {
        let kind = if stat.directory { FileType::Directory } else { FileType::RegularFile };
        let perm = u16::try_from(stat.mode & 0o7777).unwrap_or(0);
        FileAttr {
            atime: stat.atime,
            mtime: stat.mtime,
            ctime: stat.ctime,
            uid: if stat.uid == 0 { self.uid } else { stat.uid },
            gid: if stat.gid == 0 { self.gid } else { stat.gid },
            ..self.attr(Target::Configfs(stat.node), kind, perm, stat.size, stat.nlink)
        }
    }

    fn attr(&self, target: Target, kind: FileType, perm: u16, size: u64, nlink: u32) -> FileAttr {
        FileAttr {
            ino: target.ino(),
            size,
            blocks: 0,
            atime: self.started,
            mtime: self.started,
            ctime: self.started,
            crtime: self.started,
            kind,
            perm,
            nlink,
            uid: self.uid,
            gid: self.gid,
            rdev: 0,
            blksize: 4096,
            flags: 0,
        }
    }

    /// Lets the kernel be told through this.
    pub(super) fn notify_through(&self, notifier: Notifier) {
        // The first stays; there is one session.
        let _ = self.notifier.set(notifier);
    }

    /// Removes an entry. The kernel learns that its attributes have no name any more: it does not think of that, as they
    /// were not removed one by one.
    pub(super) fn remove(&self, parent: Node, name: &[u8]) -> Result<(), Errno> {
        let attributes = self.configfs.lookup(parent, name).and_then(|entry| self.configfs.list(entry));
        self.configfs.rmdir(parent, name)?;
        let attributes = attributes.unwrap_or_default().into_iter();
        if let Some(notifier) = self.notifier.get() {
            for (_, attribute) in attributes {
                // An error means that the kernel has forgotten it.
                let _ = notifier.inval_inode(Target::Configfs(attribute).ino(), -1, 0);
            }
        }
        Ok(())
    }

    /// The names in a directory behind a cookie, in the order of their cookies.
    ///
    /// Entries of reports come and go while a directory is read. Their cookies follow from their numbers, which are never
    /// used again, newest first as configfs lists them; so none is shown twice, and none that stays is left out.
    pub(super) fn names(&self, target: Target, behind: u64) -> Result<Vec<Name>, Errno> {
        let (parent, children) = match target {
            Target::Tree(number) => self.tree_names(number)?,
            Target::Configfs(node) => self.configfs_names(node)?,
        };
        let dots = [(".", target, 1), ("..", parent, 2)].map(|(name, target, cookie)| Name {
            name: name.as_bytes().to_vec(),
            target,
            kind: FileType::Directory,
            cookie,
        });
        let mut names: Vec<Name> = dots.into_iter().chain(children).collect();
        names.retain(|name| name.cookie > behind);
        names.sort_by_key(|name| name.cookie);
        Ok(names)
    }

    fn tree_names(&self, number: usize) -> Result<(Target, Vec<Name>), Errno> {
        let Entry::Directory(children) = self.entry(number)? else { return Err(Errno::ENOTDIR) };
        let mut names = Vec::new();
        for (index, (name, child)) in children.iter().enumerate() {
            let kind = self.tree_attributes(*child)?.kind;
            let target = self.of_tree(*child);
            names.push(Name { name: name.clone().into_bytes(), target, kind, cookie: index as u64 + 3 });
        }
        let parent = self.tree.node(number).map_or(0, |node| node.parent);
        Ok((Target::Tree(parent), names))
    }

    fn configfs_names(&self, node: Node) -> Result<(Target, Vec<Name>), Errno> {
        let names = self.configfs.list(node)?.into_iter().enumerate().map(|(index, (name, child))| Name {
            name,
            target: Target::Configfs(child),
            kind: if child.is_directory() { FileType::Directory } else { FileType::RegularFile },
            // Offsets are signed in the kernel.
            cookie: match child {
                Node::Entry(_) => i64::MAX.unsigned_abs() - child.ino(),
                _ => index as u64 + 3,
            },
        });
        Ok((Target::Configfs(node.parent()), names.collect()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        configfs::KernelStyle,
        provider::{Attribute, Blobs, Provider, ReportRequest},
        shell::FixedFile,
    };

    struct Nothing;

    impl Provider for Nothing {
        fn name(&self) -> &'static str {
            "nothing"
        }

        fn is_visible(&self, _: Attribute) -> bool {
            true
        }

        fn report_new(&mut self, _: &ReportRequest) -> Result<Blobs, Errno> {
            Err(Errno::EIO)
        }
    }

    fn shared() -> Arc<Shared> {
        let configfs = Configfs::new(KernelStyle::default());
        configfs.register(Box::new(Nothing)).expect("the first provider");
        let mut tree = Tree::new();
        tree.add_file("/sys/file", FixedFile::new(vec![1], 0o444));
        tree.add_configfs("/sys/kernel/config");
        Server::new(Arc::new(configfs), tree).expect("threads").shared
    }

    fn walk(shared: &Shared, names: &[&str]) -> Result<Target, Errno> {
        names.iter().try_fold(Target::Tree(0), |at, name| shared.lookup(at, name.as_bytes()))
    }

    #[test]
    fn numbers_lead_back() {
        let shared = shared();
        for path in [&["sys", "file"][..], &["sys", "kernel", "config"], &["sys", "kernel", "config", "tsm"]]
        {
            let target = walk(&shared, path).expect("it is there");
            assert_eq!(Target::from_ino(target.ino()), Ok(target));
            assert_eq!(shared.attributes(target).expect("it is there").ino, target.ino());
        }
        assert_eq!(Target::Tree(0).ino(), INodeNo::ROOT);
        assert!(Target::from_ino(INodeNo(0)).is_err());
        assert_eq!(walk(&shared, &["sys", "nothing"]), Err(Errno::ENOENT));
        let beyond = Target::from_ino(INodeNo(CONFIGFS_BASE - 1)).expect("a number of the tree");
        assert_eq!(shared.attributes(beyond).map(|_| ()), Err(Errno::ENOENT));
    }

    #[test]
    fn directories_are_read_in_pieces_while_they_change() {
        let shared = shared();
        let report = walk(&shared, &["sys", "kernel", "config", "tsm", "report"]).expect("it is there");
        for name in ["a", "b", "c", "d"] {
            shared.configfs.mkdir(Node::Report, name.as_bytes()).expect("a provider is there");
        }
        let all = shared.names(report, 0).expect("a directory");
        let text = |names: &[Name]| names.iter().map(|name| name.name.clone()).collect::<Vec<_>>();
        assert_eq!(text(&all), [&b"."[..], b"..", b"d", b"c", b"b", b"a"]);
        shared.configfs.rmdir(Node::Report, b"c").expect("it is there");
        shared.configfs.mkdir(Node::Report, b"e").expect("a provider is there");
        let rest = shared.names(report, all[3].cookie).expect("a directory");
        assert_eq!(text(&rest), [&b"b"[..], b"a"]);
    }
}
