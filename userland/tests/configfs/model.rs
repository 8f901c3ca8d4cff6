//! Random operations, compared with a small model of the rules.
//!
//! The model knows no locks, no buffers by reference and no generations: an entry keeps the number of its writes and the
//! number at which its report was made.

use std::collections::BTreeMap;

use nix::errno::Errno;
use nix::fcntl::OFlag;
use proptest::collection::vec;
use proptest::prelude::*;
use tsmsim_userland::configfs::{Configfs, Handle, KernelStyle, Node};
use tsmsim_userland::provider::{Attribute, Blobs, ReportRequest};

use crate::fake::{Answer, Fake, blobs_of, node, svsm};

#[derive(Clone, Debug)]
enum Step {
    Mkdir(u8),
    Rmdir(u8),
    Open(u8, Attribute, bool),
    Read(u8, u64, usize),
    Write(u8, u64, Vec<u8>),
    Release(u8),
    Answer(Answer),
    Unregister,
    Register,
}

fn attribute() -> impl Strategy<Value = Attribute> {
    prop_oneof![
        4 => Just(Attribute::Inblob),
        4 => Just(Attribute::Outblob),
        2 => Just(Attribute::Auxblob),
        1 => Just(Attribute::Manifestblob),
        2 => Just(Attribute::Generation),
        1 => Just(Attribute::Provider),
        1 => Just(Attribute::Privlevel),
        1 => Just(Attribute::ServiceProvider),
        1 => Just(Attribute::ServiceGuid),
        1 => Just(Attribute::ServiceManifestVersion),
    ]
}

/// What is written. No digits but in the texts given here, so that the model need not parse numbers.
fn text() -> impl Strategy<Value = Vec<u8>> {
    prop_oneof![
        2 => vec(any::<u8>().prop_map(|byte| if byte.is_ascii_digit() { b'#' } else { byte }), 0..70),
        2 => Just(b"1\n".to_vec()),
        1 => Just(b"0".to_vec()),
        1 => Just(b"c476f1eb-0123-45a5-9641-b4e7dde5bfe3".to_vec()),
        1 => Just(vec![b'z'; 5000]),
    ]
}

fn step() -> impl Strategy<Value = Step> {
    let slot = 0_u8..6;
    prop_oneof![
        3 => (0_u8..3).prop_map(Step::Mkdir),
        1 => (0_u8..3).prop_map(Step::Rmdir),
        8 => (0_u8..3, attribute(), prop::bool::weighted(0.9)).prop_map(|(e, a, right)| Step::Open(e, a, right)),
        8 => (slot.clone(), 0_u64..80, 0_usize..300).prop_map(|(h, offset, len)| Step::Read(h, offset, len)),
        8 => (slot.clone(), prop_oneof![3 => Just(0_u64), 1 => 0_u64..80], text())
            .prop_map(|(h, offset, data)| Step::Write(h, offset, data)),
        6 => slot.prop_map(Step::Release),
        2 => prop_oneof![
            4 => Just(Answer::Request),
            1 => Just(Answer::Bytes(0)),
            1 => Just(Answer::Bytes(40000)),
            1 => Just(Answer::Nothing),
            1 => Just(Answer::Fail(Errno::EIO)),
        ].prop_map(Step::Answer),
        1 => Just(Step::Unregister),
        2 => Just(Step::Register),
    ]
}

#[derive(Default)]
struct ModelEntry {
    writes: u32,
    desc: ReportRequest,
    made: Option<(u32, Blobs)>,
    removed: bool,
}

struct ModelFile {
    entry: usize,
    attribute: Attribute,
    served: Option<Vec<u8>>,
    collected: Option<Vec<u8>>,
}

/// The rules, told once more.
struct Model {
    entries: Vec<ModelEntry>,
    names: BTreeMap<u8, usize>,
    files: BTreeMap<u8, ModelFile>,
    answer: Answer,
    provider: bool,
}

fn is_written(attribute: Attribute) -> bool {
    use Attribute::{Inblob, Privlevel, ServiceGuid, ServiceManifestVersion, ServiceProvider};
    matches!(attribute, Inblob | Privlevel | ServiceGuid | ServiceManifestVersion | ServiceProvider)
}

impl Model {
    fn blob(&mut self, entry: usize, attribute: Attribute) -> Result<Vec<u8>, Errno> {
        let entry = &mut self.entries[entry];
        if entry.removed {
            return Err(Errno::ENOENT);
        }
        if entry.desc.inblob.is_empty() {
            return Err(Errno::EINVAL);
        }
        if entry.made.as_ref().is_none_or(|(at, blobs)| *at != entry.writes || blobs.outblob.is_none()) {
            if !self.provider {
                return Err(Errno::ENXIO);
            }
            entry.made = None;
            let blobs = match &self.answer {
                Answer::Request => blobs_of(&entry.desc),
                Answer::Bytes(bytes) => Blobs { outblob: Some(vec![0; *bytes]), ..Blobs::default() },
                Answer::Nothing => Blobs::default(),
                Answer::Fail(errno) => return Err(*errno),
            };
            entry.made = Some((entry.writes, blobs));
        }
        let (_, blobs) = entry.made.as_ref().unwrap();
        Ok(match attribute {
            Attribute::Outblob => blobs.outblob.clone().unwrap_or_default(),
            Attribute::Auxblob => blobs.auxblob.clone().unwrap_or_default(),
            _ => Vec::new(),
        })
    }

    fn read(&mut self, slot: u8, offset: u64, len: usize) -> Result<Vec<u8>, Errno> {
        let (entry, attribute, served) = {
            let file = &self.files[&slot];
            (file.entry, file.attribute, file.served.clone())
        };
        if is_written(attribute) {
            return Err(Errno::EBADF);
        }
        let bytes = match (served, attribute) {
            (Some(bytes), _) => bytes,
            (None, _) if self.entries[entry].removed => return Err(Errno::ENOENT),
            (None, Attribute::Generation) => format!("{}\n", self.entries[entry].writes).into_bytes(),
            (None, Attribute::Provider) if self.provider => b"fake_guest\n".to_vec(),
            (None, Attribute::Provider) => return Err(Errno::ENXIO),
            (None, attribute) => match self.blob(entry, attribute)? {
                bytes if bytes.is_empty() => return Ok(bytes),
                bytes if bytes.len() > 32768 => return Err(Errno::EFBIG),
                bytes => bytes,
            },
        };
        self.files.get_mut(&slot).unwrap().served = Some(bytes.clone());
        let rest: Vec<u8> = bytes.into_iter().skip(usize::try_from(offset).unwrap()).collect();
        if len == 0 && !rest.is_empty() {
            return Err(Errno::EFAULT);
        }
        Ok(rest.into_iter().take(len).collect())
    }

    fn write(&mut self, slot: u8, offset: u64, data: &[u8]) -> Result<usize, Errno> {
        let file = self.files.get_mut(&slot).unwrap();
        if !is_written(file.attribute) {
            return Err(Errno::EBADF);
        }
        if file.attribute == Attribute::Inblob {
            let collected = file.collected.get_or_insert_default();
            let offset = usize::try_from(offset).unwrap();
            let end = offset + data.len();
            if end > 64 {
                return Err(Errno::EFBIG);
            }
            collected.resize(collected.len().max(end), 0);
            collected.splice(offset..end, data.iter().copied());
            return if data.is_empty() { Err(Errno::EFAULT) } else { Ok(data.len()) };
        }
        let data = &data[..data.len().min(4095)];
        if data.is_empty() {
            return Err(Errno::EFAULT);
        }
        let (attribute, provider) = (file.attribute, self.provider);
        let entry = &mut self.entries[file.entry];
        if entry.removed {
            return Err(Errno::ENOENT);
        }
        store(entry, attribute, data, provider)?;
        Ok(data.len())
    }

    fn release(&mut self, slot: u8) {
        if let Some(file) = self.files.remove(&slot)
            && let Some(collected) = file.collected
            && !self.entries[file.entry].removed
        {
            let entry = &mut self.entries[file.entry];
            entry.desc.inblob = collected;
            entry.writes += 1;
        }
    }
}

/// The texts of [`text`]: the only numbers are `1\n` and `0`.
fn store(entry: &mut ModelEntry, attribute: Attribute, data: &[u8], provider: bool) -> Result<(), Errno> {
    let text: Vec<u8> = data.iter().copied().take_while(|&byte| byte != 0).collect();
    let number = match &text[..] {
        b"1\n" => Ok(1),
        b"0" => Ok(0),
        _ => Err(Errno::EINVAL),
    };
    match attribute {
        Attribute::Privlevel => {
            let number = number?;
            if !provider {
                return Err(Errno::ENXIO);
            }
            if !(1..=3).contains(&number) {
                return Err(Errno::EINVAL);
            }
            entry.desc.privlevel = number;
        }
        Attribute::ServiceManifestVersion => entry.desc.service_manifest_version = number?,
        Attribute::ServiceProvider => {
            let value = data.strip_suffix(b"\n").unwrap_or(data);
            entry.desc.service_provider = Some(value.iter().copied().take_while(|&byte| byte != 0).collect());
        }
        _ => {
            entry.writes += 1;
            let right = text == b"c476f1eb-0123-45a5-9641-b4e7dde5bfe3";
            let guid = 0xebf1_76c4_2301_a545_9641_b4e7_dde5_bfe3_u128.to_be_bytes();
            entry.desc.service_guid = if right { guid } else { [0; 16] };
            return if right { Ok(()) } else { Err(Errno::EINVAL) };
        }
    }
    entry.writes += 1;
    Ok(())
}

/// The real thing beside the model, with what they call their entries and files.
struct Pair {
    fs: Configfs,
    fake: Fake,
    model: Model,
    nodes: Vec<Node>,
    handles: BTreeMap<u8, Handle>,
    opened: u8,
}

impl Pair {
    fn new() -> Self {
        let fake = Fake::new(svsm, 1);
        let fs = Configfs::new(KernelStyle::V6_12);
        fs.register(Box::new(fake.clone())).unwrap();
        let model = Model {
            entries: Vec::new(),
            names: BTreeMap::new(),
            files: BTreeMap::new(),
            answer: Answer::Request,
            provider: true,
        };
        Self { fs, fake, model, nodes: Vec::new(), handles: BTreeMap::new(), opened: 0 }
    }

    fn step(&mut self, step: &Step) -> Result<(), TestCaseError> {
        match step {
            Step::Mkdir(name) => {
                let made = self.fs.mkdir(Node::Report, &[b'a' + name]);
                let expected = match (self.model.names.contains_key(name), self.model.provider) {
                    (true, _) => Err(Errno::EEXIST),
                    (false, false) => Err(Errno::ENXIO),
                    (false, true) => Ok(()),
                };
                prop_assert_eq!(made.map(|_| ()), expected);
                if let Ok(node) = made {
                    self.model.names.insert(*name, self.nodes.len());
                    self.model.entries.push(ModelEntry::default());
                    self.nodes.push(node);
                }
            }
            Step::Rmdir(name) => {
                let removed = self.fs.rmdir(Node::Report, &[b'a' + name]);
                let entry = self.model.names.remove(name);
                prop_assert_eq!(removed, entry.map(|_| ()).ok_or(Errno::ENOENT));
                if let Some(entry) = entry {
                    self.model.entries[entry].removed = true;
                }
            }
            Step::Open(name, attribute, right) => self.open(*name, *attribute, *right)?,
            Step::Read(slot, offset, len) => {
                if let Some(&handle) = self.handles.get(slot) {
                    let expected = self.model.read(*slot, *offset, *len);
                    prop_assert_eq!(self.fs.read(handle, *offset, *len), expected);
                }
            }
            Step::Write(slot, offset, data) => {
                if let Some(&handle) = self.handles.get(slot) {
                    let expected = self.model.write(*slot, *offset, data);
                    prop_assert_eq!(self.fs.write(handle, *offset, data), expected);
                }
            }
            Step::Release(slot) => {
                if let Some(handle) = self.handles.remove(slot) {
                    self.fs.release(handle);
                    self.model.release(*slot);
                }
            }
            Step::Answer(answer) => {
                self.fake.answer(answer.clone());
                self.model.answer = answer.clone();
            }
            Step::Unregister => {
                prop_assert_eq!(self.fs.unregister().is_some(), self.model.provider);
                self.model.provider = false;
            }
            Step::Register => {
                let possible = !self.model.provider && self.model.names.is_empty();
                prop_assert_eq!(self.fs.register(Box::new(self.fake.clone())).is_ok(), possible);
                self.model.provider |= possible;
            }
        }
        Ok(())
    }

    fn open(&mut self, name: u8, attribute: Attribute, right: bool) -> Result<(), TestCaseError> {
        let Some(&entry) = self.model.names.get(&name) else {
            return Ok(());
        };
        let written = is_written(attribute) == right;
        let flags = if written { OFlag::O_WRONLY } else { OFlag::O_RDONLY };
        let opened = self.fs.open(node(self.nodes[entry], attribute), flags.bits());
        prop_assert_eq!(opened.is_ok(), right);
        if let Ok(handle) = opened {
            let slot = self.opened % 6;
            self.opened = self.opened.wrapping_add(1);
            if let Some(old) = self.handles.insert(slot, handle) {
                self.fs.release(old);
                self.model.release(slot);
            }
            let file = ModelFile { entry, attribute, served: None, collected: None };
            self.model.files.insert(slot, file);
        }
        Ok(())
    }

    /// What can be asked at any time.
    fn compare(&self) -> Result<(), TestCaseError> {
        let listed: Vec<Node> =
            self.fs.list(Node::Report).unwrap().into_iter().map(|(_, node)| node).collect();
        let mut expected: Vec<Node> = self.model.names.values().map(|&entry| self.nodes[entry]).collect();
        expected.sort();
        expected.reverse();
        prop_assert_eq!(listed, expected);
        for &entry in self.model.names.values() {
            let generation = crate::fake::generation(&self.fs, self.nodes[entry]);
            prop_assert_eq!(generation, u64::from(self.model.entries[entry].writes));
        }
        for (entry, &node) in self.model.entries.iter().zip(&self.nodes) {
            let index = self.nodes.iter().position(|&other| other == node).unwrap();
            let open = self.model.files.values().any(|file| file.entry == index);
            prop_assert_eq!(self.fs.stat(node).is_ok(), !entry.removed || open);
        }
        Ok(())
    }
}

proptest! {
    #[test]
    fn configfs_does_what_the_model_does(steps in vec(step(), 1..120)) {
        let mut pair = Pair::new();
        for step in &steps {
            pair.step(step)?;
        }
        pair.compare()?;
        for slot in 0..6 {
            pair.step(&Step::Release(slot))?;
        }
        pair.compare()?;
    }
}
