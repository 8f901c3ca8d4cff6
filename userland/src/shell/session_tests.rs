use std::{
    fs::{self, Permissions},
    os::unix::{fs::PermissionsExt, process::ExitStatusExt},
    process::{Command, Stdio},
    sync::mpsc::{Receiver, Sender, channel},
    thread,
};

use nix::errno::Errno;
use tempfile::TempDir;
use tsmsim_tests::need::{self, Lack};

use super::*;
use crate::{
    configfs::KernelStyle,
    provider::{Attribute, Blobs, Provider, ReportRequest},
};

/// Says when it is asked, and answers when it may: each time that something is sent, and always once nobody can send.
struct Slow {
    asked: Sender<()>,
    gate: Receiver<()>,
}

impl Provider for Slow {
    fn name(&self) -> &'static str {
        "slow"
    }

    fn is_visible(&self, _: Attribute) -> bool {
        true
    }

    fn report_new(&mut self, request: &ReportRequest) -> Result<Blobs, Errno> {
        let _ = self.asked.send(());
        let _ = self.gate.recv();
        Ok(Blobs { outblob: Some(request.inblob.clone()), ..Blobs::default() })
    }
}

/// Two entries, `a` and `b`, whose reports are waited for.
struct Bench {
    reports: PathBuf,
    asked: Receiver<()>,
    gate: Sender<()>,
    _directory: Directory,
    _root: TempDir,
}

impl Bench {
    #[track_caller]
    fn find() -> Option<Self> {
        need::device(Path::new("/dev/fuse"))?;
        if !geteuid().is_root() {
            need::skip(Lack::Hardware, "the test is run by an ordinary user");
            return None;
        }
        let (asked_sender, asked) = channel();
        let (gate, gate_receiver) = channel();
        let configfs = Configfs::new(KernelStyle::default());
        let provider = Slow { asked: asked_sender, gate: gate_receiver };
        configfs.register(Box::new(provider)).expect("the first provider");
        let served = Served { configfs: Arc::new(configfs), tree: Tree::new() };
        let root = tempfile::tempdir().expect("a temporary directory");
        fs::set_permissions(root.path(), Permissions::from_mode(0o755)).expect("it is ours");
        let directory = match Directory::serve(served, root.path(), true) {
            Ok(directory) => directory,
            Err(ShellError::Lacking(reason)) => {
                need::skip(Lack::Hardware, &reason);
                return None;
            }
            Err(error) => panic!("{error}"),
        };
        let reports = directory.path().join("sys/kernel/config/tsm/report");
        for name in ["a", "b"] {
            fs::create_dir(reports.join(name)).expect("entries can be made");
            fs::write(reports.join(name).join("inblob"), name).expect("inblob can be written");
        }
        Some(Self { reports, asked, gate, _directory: directory, _root: root })
    }

    /// What does not wait for a report, in Linux as here.
    fn others_go_on(&self) {
        for name in ["a", "b"] {
            let generation = self.reports.join(name).join("generation");
            assert_eq!(fs::metadata(&generation).expect("it is there").len(), 4096);
            assert_eq!(fs::read_dir(self.reports.join(name)).expect("a directory").count(), 11);
            fs::File::open(generation).expect("it can be opened");
            fs::metadata(self.reports.join(name).join("nothing")).expect_err("there is none");
        }
        assert_eq!(fs::read_dir(&self.reports).expect("a directory").count(), 2);
    }
}

#[test]
fn others_go_on_while_a_report_is_waited_for() {
    let Some(bench) = Bench::find() else { return };
    let outblob = bench.reports.join("a/outblob");
    let waiting = thread::spawn(move || fs::read(outblob));
    bench.asked.recv().expect("the provider is asked");
    bench.others_go_on();
    assert!(!waiting.is_finished(), "there is no report yet");
    bench.gate.send(()).expect("the provider waits");
    assert_eq!(waiting.join().expect("no panic").expect("a report"), b"a");
}

#[test]
fn a_caller_that_is_killed_meanwhile_holds_nobody_up() {
    let Some(bench) = Bench::find() else { return };
    let mut cat = Command::new("cat");
    let mut caller =
        cat.arg(bench.reports.join("a/outblob")).stdout(Stdio::null()).spawn().expect("cat runs");
    bench.asked.recv().expect("the provider is asked");
    caller.kill().expect("it waits");
    bench.others_go_on();
    bench.gate.send(()).expect("the provider waits");
    assert_eq!(caller.wait().expect("it ends").signal(), Some(9));
    bench.gate.send(()).expect("the provider is there");
    assert_eq!(fs::read(bench.reports.join("b/outblob")).expect("a report"), b"b");
    fs::remove_dir(bench.reports.join("a")).expect("nothing holds it");
    fs::write(bench.reports.join("b/inblob"), "c").expect("inblob can be written");
    bench.gate.send(()).expect("the provider is there");
    assert_eq!(fs::read(bench.reports.join("b/outblob")).expect("a report"), b"c");
}
