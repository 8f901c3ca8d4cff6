//! A provider whose answers a test chooses, and a configfs with it.

use std::sync::{Arc, Mutex, MutexGuard};

use nix::errno::Errno;
use nix::fcntl::OFlag;
use tsmsim_userland::configfs::{Configfs, Handle, KernelStyle, Node};
use tsmsim_userland::provider::{Attribute, Blobs, Provider, ReportRequest};

/// What the provider does when it is asked.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) enum Answer {
    /// Blobs that tell the request: see [`blobs_of`].
    Request,
    /// An `outblob` of so many bytes, and nothing else.
    Bytes(usize),
    /// Success, but not even an `outblob`.
    Nothing,
    /// A failure.
    Fail(Errno),
}

/// What the tests see of the provider.
#[derive(Debug)]
pub(crate) struct Control {
    pub(crate) answer: Answer,
    pub(crate) requests: Vec<ReportRequest>,
}

/// A handle on the provider's [`Control`] that outlives its registration.
#[derive(Clone, Debug)]
pub(crate) struct Fake {
    control: Arc<Mutex<Control>>,
    /// Held by a test, it makes the provider sleep.
    pub(crate) gate: Arc<Mutex<()>>,
    shows: fn(Attribute) -> bool,
    floor: u32,
}

/// As `sev-guest` without an SVSM.
pub(crate) fn sev(attribute: Attribute) -> bool {
    use Attribute::{Auxblob, Privlevel, PrivlevelFloor};
    tdx(attribute) || matches!(attribute, Privlevel | PrivlevelFloor | Auxblob)
}

/// As `sev-guest` under an SVSM.
pub(crate) fn svsm(_: Attribute) -> bool {
    true
}

/// As `tdx-guest`.
pub(crate) fn tdx(attribute: Attribute) -> bool {
    use Attribute::{Generation, Inblob, Outblob, Provider};
    matches!(attribute, Generation | Provider | Inblob | Outblob)
}

/// The blobs of [`Answer::Request`].
pub(crate) fn blobs_of(request: &ReportRequest) -> Blobs {
    Blobs {
        outblob: Some(format!("{request:?}").into_bytes()),
        auxblob: Some(request.inblob.clone()),
        manifestblob: None,
    }
}

impl Fake {
    pub(crate) fn new(shows: fn(Attribute) -> bool, floor: u32) -> Self {
        let control = Control { answer: Answer::Request, requests: Vec::new() };
        Self { control: Arc::new(Mutex::new(control)), gate: Arc::default(), shows, floor }
    }

    pub(crate) fn control(&self) -> MutexGuard<'_, Control> {
        self.control.lock().unwrap()
    }

    pub(crate) fn answer(&self, answer: Answer) {
        self.control().answer = answer;
    }

    /// How often it was asked.
    pub(crate) fn asked(&self) -> usize {
        self.control().requests.len()
    }

    /// What it was asked last.
    pub(crate) fn last(&self) -> ReportRequest {
        self.control().requests.last().cloned().unwrap()
    }
}

impl Provider for Fake {
    fn name(&self) -> &'static str {
        "fake_guest"
    }

    fn privlevel_floor(&self) -> u32 {
        self.floor
    }

    fn is_visible(&self, attribute: Attribute) -> bool {
        (self.shows)(attribute)
    }

    fn report_new(&mut self, request: &ReportRequest) -> Result<Blobs, Errno> {
        self.control().requests.push(request.clone());
        drop(self.gate.lock().unwrap());
        match self.control().answer.clone() {
            Answer::Request => Ok(blobs_of(request)),
            Answer::Bytes(bytes) => Ok(Blobs { outblob: Some(vec![0; bytes]), ..Blobs::default() }),
            Answer::Nothing => Ok(Blobs::default()),
            Answer::Fail(errno) => Err(errno),
        }
    }
}

/// A configfs with a [`Fake`] and one entry.
pub(crate) struct World {
    pub(crate) fs: Configfs,
    pub(crate) fake: Fake,
    pub(crate) entry: Node,
}

/// The name of the entry.
pub(crate) const NAME: &[u8] = b"entry";

impl World {
    pub(crate) fn new(style: KernelStyle, shows: fn(Attribute) -> bool) -> Self {
        let fake = Fake::new(shows, 1);
        let fs = Configfs::new(style);
        fs.register(Box::new(fake.clone())).unwrap();
        let entry = fs.mkdir(Node::Report, NAME).unwrap();
        Self { fs, fake, entry }
    }

    pub(crate) fn node(&self, attribute: Attribute) -> Node {
        node(self.entry, attribute)
    }

    pub(crate) fn open(&self, attribute: Attribute, flags: OFlag) -> Handle {
        self.fs.open(self.node(attribute), flags.bits()).unwrap()
    }

    /// What `echo -n … > attribute` does.
    pub(crate) fn write(&self, attribute: Attribute, bytes: &[u8]) -> Result<usize, Errno> {
        write(&self.fs, self.entry, attribute, bytes)
    }

    /// What `cat attribute` does.
    pub(crate) fn read(&self, attribute: Attribute) -> Result<Vec<u8>, Errno> {
        read(&self.fs, self.entry, attribute)
    }

    /// What `generation` says.
    pub(crate) fn generation(&self) -> u64 {
        generation(&self.fs, self.entry)
    }
}

/// An attribute of an entry.
pub(crate) fn node(entry: Node, attribute: Attribute) -> Node {
    match entry {
        Node::Entry(id) => Node::Attribute(id, attribute),
        other => panic!("{other:?} is no entry"),
    }
}

pub(crate) fn write(fs: &Configfs, entry: Node, attribute: Attribute, bytes: &[u8]) -> Result<usize, Errno> {
    let handle = fs.open(node(entry, attribute), (OFlag::O_WRONLY | OFlag::O_TRUNC).bits())?;
    let written = fs.write(handle, 0, bytes);
    fs.release(handle);
    written
}

pub(crate) fn read(fs: &Configfs, entry: Node, attribute: Attribute) -> Result<Vec<u8>, Errno> {
    let handle = fs.open(node(entry, attribute), OFlag::O_RDONLY.bits())?;
    let mut all = Vec::new();
    let end = loop {
        match fs.read(handle, u64::try_from(all.len()).unwrap(), 100) {
            Ok(bytes) if bytes.is_empty() => break Ok(all),
            Ok(bytes) => all.extend(bytes),
            Err(errno) => break Err(errno),
        }
    };
    fs.release(handle);
    end
}

pub(crate) fn generation(fs: &Configfs, entry: Node) -> u64 {
    let text = String::from_utf8(read(fs, entry, Attribute::Generation).unwrap()).unwrap();
    text.strip_suffix('\n').unwrap().parse().unwrap()
}
