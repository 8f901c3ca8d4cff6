//! Any operations on configfs, over a provider that does what `inblob` says. The first byte: bits 1:0: the style; bit 2: what the
//! provider shows. One step: kind (1; bits 3:0), and which entry or file (1), then
//! 0 mkdir: name (length and bytes); 1 rmdir; 2 open: attribute (1), flags (1); 3 read: offset (8 if kind's bit 4, else 2), length
//! (2); 4 write: offset (the same), length and bytes; 5 release; 6 lookup, list, stat: name; 7 metadata: what (1), value (4); 8 rename:
//! name; 9 the provider goes or comes; 10 `inblob` is written as a whole: length and bytes; 11 `outblob` is read as a whole; 12 what
//! configfs does not have: name.
#![no_main]

use std::{
    collections::BTreeMap,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};

use libfuzzer_sys::fuzz_target;
use nix::errno::Errno;
use tsmsim_fuzz::{Input, STEPS};
use tsmsim_userland::{
    configfs::{Access, Configfs, Handle, KernelStyle, Node, SetAttributes},
    provider::{Attribute, Blobs, INBLOB_MAX, Provider, ReportRequest},
};

const O_RDONLY: i32 = 0;
const O_WRONLY: i32 = 1;

/// Says in `outblob` what it was asked; the first bytes of `inblob` say what it does.
struct Obedient {
    calls: Arc<AtomicU64>,
    shows_all: bool,
}

impl Provider for Obedient {
    fn name(&self) -> &'static str {
        "obedient"
    }

    fn is_visible(&self, attribute: Attribute) -> bool {
        self.shows_all
            || matches!(
                attribute,
                Attribute::Generation | Attribute::Provider | Attribute::Inblob | Attribute::Outblob
            )
    }

    fn report_new(&mut self, request: &ReportRequest) -> Result<Blobs, Errno> {
        self.calls.fetch_add(1, Ordering::Relaxed);
        let [what, size, ..] = request.inblob[..] else { return Err(Errno::EINVAL) };
        let mut blob = request.inblob.clone();
        blob.resize(INBLOB_MAX + 200 * usize::from(size), 0);
        match what & 7 {
            0 => Err(Errno::EIO),
            1 => Ok(Blobs::default()),
            2 => Ok(Blobs { outblob: Some(Vec::new()), ..Blobs::default() }),
            3 => Ok(Blobs {
                outblob: Some(blob.clone()),
                auxblob: Some(blob.clone()),
                manifestblob: Some(blob),
            }),
            _ => Ok(Blobs { outblob: Some(blob), ..Blobs::default() }),
        }
    }
}

/// What an open file is and what was written to it.
struct Open {
    handle: Handle,
    entry: Node,
    attribute: Attribute,
    collected: Vec<u8>,
}

struct Entry {
    name: Vec<u8>,
    generation: u64,
    inblob: Vec<u8>,
}

struct Bench {
    configfs: Configfs,
    calls: Arc<AtomicU64>,
    shows_all: bool,
    entries: BTreeMap<Node, Entry>,
    files: Vec<Open>,
}

fuzz_target!(|bytes: &[u8]| {
    let mut input = Input::new(bytes);
    let first = input.u8();
    let style = [KernelStyle::V6_7, KernelStyle::V6_12, KernelStyle::V6_16][usize::from(first & 3) % 3];
    let mut bench = Bench {
        configfs: Configfs::new(style),
        calls: Arc::default(),
        shows_all: first & 4 != 0,
        entries: BTreeMap::new(),
        files: Vec::new(),
    };
    bench.register();
    for _ in 0..2 * STEPS {
        if input.is_empty() {
            break;
        }
        bench.step(&mut input);
        bench.check();
    }
    bench.end();
});

impl Bench {
    fn register(&self) {
        let provider = Obedient { calls: Arc::clone(&self.calls), shows_all: self.shows_all };
        // Another may be there, or entries of one that has gone.
        let _ = self.configfs.register(Box::new(provider));
    }

    fn entry(&self, which: u8) -> Option<Node> {
        self.entries.keys().nth(usize::from(which) % self.entries.len().max(1)).copied()
    }

    fn file(&self, which: u8) -> Option<usize> {
        usize::from(which).checked_rem(self.files.len())
    }

    fn step(&mut self, input: &mut Input<'_>) {
        let (kind, which) = (input.u8(), input.u8());
        let entry = self.entry(which);
        match kind & 15 {
            0 => self.mkdir(input.sized()),
            1 => self.rmdir(entry),
            2 => {
                let (attribute, flags) = (input.u8(), i32::from(input.u8()));
                if let Some(entry) = entry {
                    self.open(entry, attribute, flags);
                }
            }
            3..=5 => self.on_file(kind, which, input),
            6 => self.look(entry, input.sized()),
            7 => self.metadata(entry, input),
            8 => {
                let name = input.sized();
                let old = entry.map_or(&b"x"[..], |entry| &self.entries[&entry].name);
                let renamed = self.configfs.rename(Node::Report, old, Node::Report, name, kind & 16 != 0);
                assert!(renamed.is_err() || old == name, "nothing is renamed");
            }
            9 if which & 1 == 0 => drop(self.configfs.unregister()),
            9 => self.register(),
            10 => self.write_inblob(entry, input.sized()),
            11 => self.read_outblob(entry),
            _ => {
                let name = input.sized();
                for node in [Node::Root, Node::Tsm, Node::Report].into_iter().chain(entry) {
                    self.configfs.unlink(node, name);
                    self.configfs.symlink(node, name);
                    self.configfs.link(node, name);
                    self.configfs.mknod(node, name);
                    self.configfs.create(node, name);
                    assert!(node == Node::Report || self.configfs.mkdir(node, name).is_err());
                }
            }
        }
    }

    fn mkdir(&mut self, name: &[u8]) {
        if let Ok(node) = self.configfs.mkdir(Node::Report, name) {
            let entry = Entry { name: name.to_vec(), generation: 0, inblob: Vec::new() };
            assert!(self.entries.insert(node, entry).is_none(), "nodes are not used again");
        }
    }

    fn rmdir(&mut self, entry: Option<Node>) {
        match entry.and_then(|entry| Some((entry, self.entries.remove(&entry)?))) {
            Some((_, entry)) => assert_eq!(self.configfs.rmdir(Node::Report, &entry.name), Ok(())),
            None => assert_eq!(self.configfs.rmdir(Node::Report, b"none"), Err(Errno::ENOENT)),
        }
    }

    fn open(&mut self, entry: Node, attribute: u8, flags: i32) -> Option<usize> {
        let names = self.configfs.list(entry).expect("it is there");
        let (_, node) = names[usize::from(attribute) % names.len()].clone();
        let Node::Attribute(_, attribute) = node else { panic!("{node:?} in an entry") };
        let handle = self.configfs.open(node, flags).ok()?;
        self.files.push(Open { handle, entry, attribute, collected: Vec::new() });
        Some(self.files.len() - 1)
    }

    fn on_file(&mut self, kind: u8, which: u8, input: &mut Input<'_>) {
        let offset = if kind & 16 == 0 { input.u16().into() } else { input.u64() };
        let Some(index) = self.file(which) else { return };
        match kind & 15 {
            3 => {
                let len = usize::from(input.u16());
                let read = self.read(index, offset, len);
                assert!(read.is_err() || read.is_ok_and(|data| data.len() <= len));
            }
            4 => {
                // A failure is the caller's matter.
                let _ = self.write(index, offset, input.sized());
            }
            _ => self.release(index),
        }
    }

    fn read(&self, index: usize, offset: u64, len: usize) -> Result<Vec<u8>, Errno> {
        let (handle, calls) = (self.files[index].handle, self.calls.load(Ordering::Relaxed));
        let would_wait = self.configfs.would_wait(handle, Access::Read);
        let read = self.configfs.read(handle, offset, len);
        let asked = self.calls.load(Ordering::Relaxed) != calls;
        assert!(would_wait || !asked, "a report is made only where that was to be expected");
        read
    }

    /// Writes; the generation of a text attribute moves with it by one at most.
    fn write(&mut self, index: usize, offset: u64, data: &[u8]) -> Result<usize, Errno> {
        let file = &mut self.files[index];
        let written = self.configfs.write(file.handle, offset, data);
        if let (Ok(taken), Attribute::Inblob) = (written, file.attribute) {
            let start = usize::try_from(offset).expect("it was taken");
            file.collected.resize(file.collected.len().max(start + taken), 0);
            file.collected[start..start + taken].copy_from_slice(&data[..taken]);
            assert!(file.collected.len() <= INBLOB_MAX);
        } else if file.attribute != Attribute::Inblob {
            self.moved(self.files[index].entry);
        }
        written
    }

    fn release(&mut self, index: usize) {
        let file = self.files.swap_remove(index);
        self.configfs.release(file.handle);
        assert_eq!(self.configfs.read(file.handle, 0, 1), Err(Errno::EBADF));
        if file.attribute == Attribute::Inblob
            && self.moved(file.entry)
            && let Some(entry) = self.entries.get_mut(&file.entry)
        {
            entry.inblob = file.collected;
        }
    }

    /// Takes note of an entry's generation, and says whether it has moved: by one, then.
    fn moved(&mut self, node: Node) -> bool {
        let Some(entry) = self.entries.get_mut(&node) else { return false };
        let before = entry.generation;
        entry.generation = generation(&self.configfs, node);
        let moved = entry.generation - before;
        assert!(moved <= 1, "one write, one generation");
        moved == 1
    }

    fn look(&self, entry: Option<Node>, name: &[u8]) {
        for node in [Node::Root, Node::Tsm, Node::Report].into_iter().chain(entry) {
            assert_eq!(self.configfs.stat(node).map(|stat| stat.directory), Ok(true));
            if let Ok(found) = self.configfs.lookup(node, name) {
                assert_eq!(Node::from_ino(found.ino()), Some(found));
                assert!(self.configfs.stat(found).is_ok());
            }
        }
    }

    fn metadata(&self, entry: Option<Node>, input: &mut Input<'_>) {
        let (what, value) = (input.u8(), input.u32());
        let new = SetAttributes {
            mode: (what & 1 != 0).then_some(value),
            uid: (what & 2 != 0).then_some(value),
            size: (what & 4 != 0).then_some(value.into()),
            ..SetAttributes::default()
        };
        let Some(entry) = entry else { return };
        let names = self.configfs.list(entry).expect("it is there");
        let (_, node) = names[usize::from(what >> 3) % names.len()];
        assert!(self.configfs.set_attributes(node, &new).is_ok());
    }

    fn write_inblob(&mut self, entry: Option<Node>, data: &[u8]) {
        let Some(index) = self.opened(entry, Attribute::Inblob, O_WRONLY) else { return };
        let written = self.write(index, 0, data);
        assert_eq!(written.is_ok(), (1..=INBLOB_MAX).contains(&data.len()));
        self.release(index);
    }

    /// A fresh file shows the report that the last configuration asks for.
    fn read_outblob(&mut self, entry: Option<Node>) {
        let Some(index) = self.opened(entry, Attribute::Outblob, O_RDONLY) else { return };
        let inblob = &self.entries[&self.files[index].entry].inblob;
        match self.read(index, 0, 1 << 16) {
            Ok(report) if report.is_empty() => assert!(inblob[0] & 7 == 1 || inblob[0] & 7 == 2),
            Ok(report) => assert_eq!(report[..inblob.len()], inblob[..], "the report is not stale"),
            Err(errno) if inblob.is_empty() => assert_eq!(errno, Errno::EINVAL),
            Err(_) => {}
        }
        self.release(index);
    }

    /// Opens an attribute, unless its mode forbids that now.
    fn opened(&mut self, entry: Option<Node>, attribute: Attribute, flags: i32) -> Option<usize> {
        let names = self.configfs.list(entry?).expect("it is there");
        let place =
            names.iter().position(|(_, node)| matches!(node, Node::Attribute(_, it) if *it == attribute));
        self.open(entry?, u8::try_from(place?).expect("there are few"), flags)
    }

    /// What holds after each step.
    fn check(&self) {
        let listed = self.configfs.list(Node::Report).expect("it is there");
        assert_eq!(listed.len(), self.entries.len());
        for (name, node) in listed {
            assert_eq!(self.entries[&node].name, name);
        }
        for (node, entry) in &self.entries {
            assert_eq!(generation(&self.configfs, *node), entry.generation, "others do not move it");
        }
    }

    /// What was taken is given back.
    fn end(mut self) {
        while !self.files.is_empty() {
            self.release(0);
        }
        while let Some(entry) = self.entry(0) {
            self.rmdir(Some(entry));
        }
        let told = format!("{:?}", self.configfs);
        assert!(told.contains("held: 0"), "{told}");
    }
}

fn generation(configfs: &Configfs, entry: Node) -> u64 {
    let node = configfs.lookup(entry, b"generation").expect("every entry has one");
    let stat = configfs.stat(node).expect("it is there");
    if stat.mode & 0o444 == 0 {
        let readable = SetAttributes { mode: Some(0o444), ..SetAttributes::default() };
        configfs.set_attributes(node, &readable).expect("it is there");
    }
    let handle = configfs.open(node, O_RDONLY).expect("it can be read");
    let text = configfs.read(handle, 0, 64).expect("it can be shown");
    configfs.release(handle);
    String::from_utf8(text).ok().and_then(|text| text.trim_end().parse().ok()).expect("a number")
}
