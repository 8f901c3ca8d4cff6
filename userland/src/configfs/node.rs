//! What is in the tree: directories, attributes, their numbers and their metadata.

use std::time::SystemTime;

use super::style::ATTRIBUTES;
use crate::provider::{Attribute, INBLOB_MAX};

/// An entry, i.e. one directory made in `report`. Never used again for another.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct EntryId(pub(super) u64);

/// A directory or an attribute.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum Node {
    /// The root of configfs.
    Root,
    /// The subsystem `tsm`.
    Tsm,
    /// The default group `tsm/report`.
    Report,
    /// An entry in `tsm/report`.
    Entry(EntryId),
    /// An attribute of an entry.
    Attribute(EntryId, Attribute),
}

/// The inode numbers of an entry and its attributes share all but these bits; the entry itself has zeros there.
const ATTRIBUTE_BITS: u32 = 4;

/// The largest [`EntryId`] with an inode number.
pub(super) const ENTRY_ID_MAX: u64 = u64::MAX >> ATTRIBUTE_BITS;

impl Node {
    /// The inode number. The root's is 1; the same node always has the same.
    ///
    /// configfs hands out arbitrary numbers, and an attribute's lasts only while it is open.
    pub fn ino(self) -> u64 {
        match self {
            Self::Root => 1,
            Self::Tsm => 2,
            Self::Report => 3,
            Self::Entry(EntryId(id)) => id << ATTRIBUTE_BITS,
            Self::Attribute(EntryId(id), attribute) => {
                let index = (1..).zip(ATTRIBUTES).find(|&(_, other)| other == attribute);
                (id << ATTRIBUTE_BITS) | index.map_or(0, |(index, _)| index)
            }
        }
    }

    /// The node with this inode number, whether it exists or not; `None` if there can be none.
    pub fn from_ino(ino: u64) -> Option<Self> {
        let id = EntryId(ino >> ATTRIBUTE_BITS);
        let low = usize::try_from(ino & ((1 << ATTRIBUTE_BITS) - 1)).ok()?;
        match (id.0, low) {
            (0, 1) => Some(Self::Root),
            (0, 2) => Some(Self::Tsm),
            (0, 3) => Some(Self::Report),
            (0, _) => None,
            (_, 0) => Some(Self::Entry(id)),
            (_, low) => ATTRIBUTES.get(low - 1).map(|&attribute| Self::Attribute(id, attribute)),
        }
    }

    /// Whether it is a directory.
    pub const fn is_directory(self) -> bool {
        !matches!(self, Self::Attribute(..))
    }

    /// The directory it is in; the root's is the root.
    pub const fn parent(self) -> Self {
        match self {
            Self::Root | Self::Tsm => Self::Root,
            Self::Report => Self::Tsm,
            Self::Entry(_) => Self::Report,
            Self::Attribute(id, _) => Self::Entry(id),
        }
    }

    /// The permission bits with which configfs makes it.
    pub(super) fn initial_mode(self) -> u32 {
        match self {
            Self::Attribute(_, attribute) => Description::of(attribute).mode(),
            _ => 0o755,
        }
    }

    /// What `st_size` says: `PAGE_SIZE` for text attributes, 0 for binary ones and directories (`configfs_lookup`).
    pub(super) fn size(self) -> u64 {
        match self {
            Self::Attribute(_, attribute) if !Description::of(attribute).binary => 4096,
            _ => 0,
        }
    }
}

/// What `stat` tells of a node. Type and permission bits are apart; there are no blocks.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Stat {
    /// Which node it is.
    pub node: Node,
    /// Whether it is a directory; else it is a regular file.
    pub directory: bool,
    /// The permission bits.
    pub mode: u32,
    /// The size in bytes: 4096 for text attributes, else 0.
    pub size: u64,
    /// How many names it has; 0 for what was removed and is still open.
    pub nlink: u32,
    /// The owner: 0 until [`Configfs::set_attributes`](super::Configfs::set_attributes) changes it.
    pub uid: u32,
    /// The group: 0 until changed.
    pub gid: u32,
    /// The time of the last access.
    pub atime: SystemTime,
    /// The time of the last change of the content.
    pub mtime: SystemTime,
    /// The time of the last change of the metadata.
    pub ctime: SystemTime,
}

/// What `chmod`, `chown`, `utimensat` or `truncate` are to change: `struct iattr`.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct SetAttributes {
    /// New permission bits.
    pub mode: Option<u32>,
    /// A new owner.
    pub uid: Option<u32>,
    /// A new group.
    pub gid: Option<u32>,
    /// A new size. It is accepted for attributes and changes nothing that a reader sees.
    pub size: Option<u64>,
    /// A new time of the last access.
    pub atime: Option<SystemTime>,
    /// A new time of the last change of the content.
    pub mtime: Option<SystemTime>,
    /// A new time of the last change of the metadata; the present time if anything changes and this is `None`.
    pub ctime: Option<SystemTime>,
}

/// What configfs knows of an attribute: `struct configfs_attribute`, `struct configfs_bin_attribute`.
#[derive(Clone, Copy, Debug)]
pub(super) struct Description {
    /// `ca_name`.
    pub(super) name: &'static [u8],
    /// Whether it is a binary attribute.
    pub(super) binary: bool,
    /// Whether it has a `store` or `write` method; all others have `show` or `read`, none has both.
    pub(super) written: bool,
}

impl Description {
    /// The attributes of `tsm.c`.
    pub(super) const fn of(attribute: Attribute) -> Self {
        let (name, binary, written): (&[u8], bool, bool) = match attribute {
            Attribute::Generation => (b"generation", false, false),
            Attribute::Provider => (b"provider", false, false),
            Attribute::Privlevel => (b"privlevel", false, true),
            Attribute::PrivlevelFloor => (b"privlevel_floor", false, false),
            Attribute::ServiceProvider => (b"service_provider", false, true),
            Attribute::ServiceGuid => (b"service_guid", false, true),
            Attribute::ServiceManifestVersion => (b"service_manifest_version", false, true),
            Attribute::Inblob => (b"inblob", true, true),
            Attribute::Outblob => (b"outblob", true, false),
            Attribute::Auxblob => (b"auxblob", true, false),
            Attribute::Manifestblob => (b"manifestblob", true, false),
        };
        Self { name, binary, written }
    }

    /// `ca_mode`: `S_IWUSR` or `S_IRUGO`.
    pub(super) const fn mode(self) -> u32 {
        if self.written { 0o200 } else { 0o444 }
    }

    /// `cb_max_size`, in bytes, where blobs may have `outblob_max`.
    pub(super) const fn max_size(self, outblob_max: usize) -> usize {
        if self.written { INBLOB_MAX } else { outblob_max }
    }
}
