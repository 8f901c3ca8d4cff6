//! The dentries: which entries there are, and the metadata of every node (`fs/configfs/dir.c`, `inode.c`).

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::time::SystemTime;

use nix::errno::Errno;

use super::file::Entry;
use super::limits::{MAX_ENTRIES, MAX_OPEN_FILES};
use super::node::{Description, ENTRY_ID_MAX, EntryId, Node, SetAttributes, Stat};
use crate::provider::Attribute;

/// The longest name, in bytes.
pub const NAME_MAX: usize = 255;

/// The tree under its lock. Nothing in here waits.
#[derive(Debug)]
pub(super) struct Tree {
    names: HashMap<Vec<u8>, EntryId>,
    /// Every entry with a name or an open file; those made last come last.
    slots: BTreeMap<EntryId, Slot>,
    /// Directories, and attributes whose metadata was set (`s_iattr`).
    inodes: HashMap<Node, Inode>,
    made: u64,
    open_files: usize,
}

#[derive(Debug)]
struct Slot {
    entry: Arc<Entry>,
    linked: bool,
    open_files: usize,
}

#[derive(Clone, Copy, Debug)]
struct Inode {
    mode: u32,
    uid: u32,
    gid: u32,
    atime: SystemTime,
    mtime: SystemTime,
    ctime: SystemTime,
}

impl Inode {
    /// A new inode: the superuser's, made now.
    fn new(node: Node) -> Self {
        let now = SystemTime::now();
        Self { mode: node.initial_mode(), uid: 0, gid: 0, atime: now, mtime: now, ctime: now }
    }

    /// `configfs_setattr`.
    fn set(&mut self, new: &SetAttributes) {
        self.mode = new.mode.map_or(self.mode, |mode| mode & 0o7777);
        self.uid = new.uid.unwrap_or(self.uid);
        self.gid = new.gid.unwrap_or(self.gid);
        self.atime = new.atime.unwrap_or(self.atime);
        self.mtime = new.mtime.unwrap_or(self.mtime);
        self.ctime = new.ctime.unwrap_or_else(SystemTime::now);
    }
}

impl Tree {
    /// The tree with the subsystem and its default group.
    pub(super) fn new() -> Self {
        let inodes = [Node::Root, Node::Tsm, Node::Report].map(|node| (node, Inode::new(node)));
        Self { names: HashMap::new(), slots: BTreeMap::new(), inodes: inodes.into(), made: 0, open_files: 0 }
    }

    /// The entry, if it has not been removed.
    fn linked(&self, id: EntryId) -> Result<&Arc<Entry>, Errno> {
        self.slots.get(&id).filter(|slot| slot.linked).map(|slot| &slot.entry).ok_or(Errno::ENOENT)
    }

    /// `lookup_one_len`, `configfs_lookup`.
    ///
    /// # Errors
    /// ENOTDIR in an attribute, ENAMETOOLONG, ENOENT.
    pub(super) fn lookup(&self, parent: Node, name: &[u8]) -> Result<Node, Errno> {
        if !parent.is_directory() {
            return Err(Errno::ENOTDIR);
        }
        if name.len() > NAME_MAX {
            return Err(Errno::ENAMETOOLONG);
        }
        if let Node::Entry(id) = parent {
            self.linked(id)?;
        }
        let found = match (parent, name) {
            (parent, b".") => Some(parent),
            (parent, b"..") => Some(parent.parent()),
            (Node::Root, b"tsm") => Some(Node::Tsm),
            (Node::Tsm, b"report") => Some(Node::Report),
            (Node::Report, name) => self.names.get(name).map(|&id| Node::Entry(id)),
            (Node::Entry(id), name) => {
                let mut attributes = self.linked(id)?.attributes.iter();
                let attribute = attributes.find(|&&attribute| Description::of(attribute).name == name);
                attribute.map(|&attribute| Node::Attribute(id, attribute))
            }
            _ => None,
        };
        found.ok_or(Errno::ENOENT)
    }

    /// The names in a directory, without `.` and `..`. What was made last comes first (`configfs_new_dirent`).
    ///
    /// # Errors
    /// ENOTDIR for an attribute, ENOENT for a removed entry.
    pub(super) fn list(&self, node: Node) -> Result<Vec<(Vec<u8>, Node)>, Errno> {
        match node {
            Node::Root => Ok(vec![(b"tsm".to_vec(), Node::Tsm)]),
            Node::Tsm => Ok(vec![(b"report".to_vec(), Node::Report)]),
            Node::Report => {
                let linked = self.slots.values().rev().filter(|slot| slot.linked);
                Ok(linked.map(|slot| (slot.entry.name.clone(), Node::Entry(slot.entry.id))).collect())
            }
            Node::Entry(id) => {
                let attributes = self.linked(id)?.attributes.iter().rev();
                let named =
                    |&attribute| (Description::of(attribute).name.to_vec(), Node::Attribute(id, attribute));
                Ok(attributes.map(named).collect())
            }
            Node::Attribute(..) => Err(Errno::ENOTDIR),
        }
    }

    /// How many names a node has.
    ///
    /// # Errors
    /// ENOENT if there is no such node, not even one that is open.
    fn nlink(&self, node: Node) -> Result<u32, Errno> {
        match node {
            Node::Root | Node::Tsm => Ok(3),
            Node::Report => {
                Ok(u32::try_from(self.names.len()).map_or(u32::MAX, |entries| entries.saturating_add(2)))
            }
            Node::Entry(id) => {
                let slot = self.slots.get(&id).ok_or(Errno::ENOENT)?;
                Ok(if slot.linked { 2 } else { 0 })
            }
            Node::Attribute(id, attribute) => {
                let slot = self.slots.get(&id).ok_or(Errno::ENOENT)?;
                if !slot.entry.attributes.contains(&attribute) {
                    return Err(Errno::ENOENT);
                }
                Ok(u32::from(slot.linked))
            }
        }
    }

    /// The inode of a node. An attribute's, unless set, is made when it is looked at.
    fn inode(&self, node: Node) -> Inode {
        self.inodes.get(&node).copied().unwrap_or_else(|| Inode::new(node))
    }

    /// `vfs_getattr`.
    ///
    /// # Errors
    /// ENOENT if there is no such node.
    pub(super) fn stat(&self, node: Node) -> Result<Stat, Errno> {
        let nlink = self.nlink(node)?;
        let Inode { mode, uid, gid, atime, mtime, ctime } = self.inode(node);
        let (directory, size) = (node.is_directory(), node.size());
        Ok(Stat { node, directory, mode, size, nlink, uid, gid, atime, mtime, ctime })
    }

    /// `notify_change`, `configfs_setattr`.
    ///
    /// # Errors
    /// ENOENT if there is no such node, EISDIR for the size of a directory.
    pub(super) fn set_attributes(&mut self, node: Node, new: &SetAttributes) -> Result<Stat, Errno> {
        self.nlink(node)?;
        if new.size.is_some() && node.is_directory() {
            return Err(Errno::EISDIR);
        }
        if *new != SetAttributes::default() {
            self.inodes.entry(node).or_insert_with(|| Inode::new(node)).set(new);
        }
        self.stat(node)
    }

    /// Makes an entry; the caller has looked that there is none of this name.
    ///
    /// # Errors
    /// ENOMEM at [`MAX_ENTRIES`].
    pub(super) fn insert(&mut self, name: &[u8], attributes: Vec<Attribute>) -> Result<Node, Errno> {
        if self.slots.len() >= MAX_ENTRIES || self.made >= ENTRY_ID_MAX {
            return Err(Errno::ENOMEM);
        }
        self.made += 1;
        let id = EntryId(self.made);
        let entry = Entry::new(id, name.to_vec(), attributes);
        self.slots.insert(id, Slot { entry: Arc::new(entry), linked: true, open_files: 0 });
        self.names.insert(name.to_vec(), id);
        self.inodes.insert(Node::Entry(id), Inode::new(Node::Entry(id)));
        self.touch_report();
        Ok(Node::Entry(id))
    }

    /// The entry that a directory of `report` is.
    pub(super) fn entry(&self, id: EntryId) -> Result<Arc<Entry>, Errno> {
        self.linked(id).cloned()
    }

    /// Takes the name from an entry; it goes when its last file is closed.
    pub(super) fn remove(&mut self, id: EntryId) {
        if let Some(slot) = self.slots.get_mut(&id) {
            slot.linked = false;
            self.names.remove(&slot.entry.name);
            self.forget_unused(id);
            self.touch_report();
        }
    }

    /// Counts an open file of an entry, and gives the entry and the permission bits of the attribute.
    ///
    /// # Errors
    /// ENOENT if there is no such attribute any more, ENOMEM at [`MAX_OPEN_FILES`].
    pub(super) fn opening(&mut self, id: EntryId, attribute: Attribute) -> Result<(Arc<Entry>, u32), Errno> {
        let mode = self.inode(Node::Attribute(id, attribute)).mode;
        let slot = self.slots.get_mut(&id).filter(|slot| slot.linked).ok_or(Errno::ENOENT)?;
        if !slot.entry.attributes.contains(&attribute) {
            return Err(Errno::ENOENT);
        }
        if self.open_files >= MAX_OPEN_FILES {
            return Err(Errno::ENOMEM);
        }
        self.open_files += 1;
        slot.open_files += 1;
        Ok((Arc::clone(&slot.entry), mode))
    }

    /// An open file of an entry is no more.
    pub(super) fn closed(&mut self, id: EntryId) {
        if let Some(slot) = self.slots.get_mut(&id) {
            slot.open_files = slot.open_files.saturating_sub(1);
            self.open_files = self.open_files.saturating_sub(1);
            self.forget_unused(id);
        }
    }

    /// Drops a removed entry without open files.
    fn forget_unused(&mut self, id: EntryId) {
        let Some(slot) = self.slots.get(&id) else {
            return;
        };
        if slot.linked || slot.open_files != 0 {
            return;
        }
        for &attribute in &slot.entry.attributes {
            self.inodes.remove(&Node::Attribute(id, attribute));
        }
        self.inodes.remove(&Node::Entry(id));
        self.slots.remove(&id);
    }

    /// The content of `report` has changed.
    fn touch_report(&mut self) {
        let now = SystemTime::now();
        if let Some(inode) = self.inodes.get_mut(&Node::Report) {
            (inode.mtime, inode.ctime) = (now, now);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_is_left_of_what_was_removed_and_closed() {
        let mut tree = Tree::new();
        for _ in 0..100 {
            let Ok(Node::Entry(id)) = tree.insert(b"entry", vec![Attribute::Inblob]) else {
                panic!("there is room for an entry");
            };
            tree.opening(id, Attribute::Inblob).unwrap();
            assert_eq!(tree.opening(id, Attribute::Outblob).unwrap_err(), Errno::ENOENT);
            let set = SetAttributes { uid: Some(1), ..SetAttributes::default() };
            tree.set_attributes(Node::Attribute(id, Attribute::Inblob), &set).unwrap();
            tree.remove(id);
            assert_eq!((tree.slots.len(), tree.inodes.len()), (1, 5), "an open file keeps it");
            tree.closed(id);
            assert_eq!(
                (tree.slots.len(), tree.inodes.len(), tree.names.len(), tree.open_files),
                (0, 3, 0, 0)
            );
        }
    }
}
