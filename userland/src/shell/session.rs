//! A session: what is served, where it is mounted, for how long.

use std::{
    ffi::OsString,
    fs,
    path::{Path, PathBuf},
    sync::Arc,
};

use fuser::{BackgroundSession, Config, MountOption, Session, SessionACL};
use nix::unistd::geteuid;

use super::{
    command::{Ended, Signals},
    error::ShellError,
    graft::{Graft, Grafts},
    namespace::{self, Staging},
    real::find_real_tee,
    server::Server,
    tree::{Entry, Tree},
    watch::{Watcher, unmount},
};
use crate::configfs::Configfs;

/// Where configfs is mounted in a guest.
pub const CONFIGFS: &str = "/sys/kernel/config";

/// What programs are to see.
pub struct Served {
    /// Configfs with its provider.
    pub configfs: Arc<Configfs>,
    /// Everything else.
    pub tree: Tree,
}

impl Served {
    fn into_server(mut self) -> Result<(Server, Places), ShellError> {
        self.tree.add_configfs(CONFIGFS);
        let places = Places::find(&self.tree);
        let server =
            Server::new(self.configfs, self.tree).map_err(ShellError::failed("starting a thread"))?;
        Ok((server, places))
    }
}

/// Paths of the tree that the root directory lacks, and so are grafted; and links.
struct Places {
    binds: Vec<PathBuf>,
    links: Vec<(PathBuf, PathBuf)>,
}

impl Places {
    fn find(tree: &Tree) -> Self {
        let mut places = Self { binds: Vec::new(), links: Vec::new() };
        places.walk(tree, 0, Path::new("/"));
        places
    }

    fn walk(&mut self, tree: &Tree, number: usize, path: &Path) {
        let is_directory = || fs::symlink_metadata(path).is_ok_and(|there| there.is_dir());
        match tree.node(number).map(|node| &node.entry) {
            Some(Entry::Directory(children)) if is_directory() => {
                for (name, child) in children {
                    self.walk(tree, *child, &path.join(name));
                }
            }
            Some(Entry::Symlink(target)) => self.links.push((path.to_owned(), target.clone())),
            _ => self.binds.push(path.to_owned()),
        }
    }

    fn grafts(&self, staging: &Path) -> Grafts {
        let mut grafts = Grafts::default();
        for path in &self.binds {
            let source = staging.join(path.strip_prefix("/").unwrap_or(path));
            grafts.add(path, Graft::Bind(source));
        }
        for (path, target) in &self.links {
            grafts.add(path, Graft::Symlink(target.clone()));
        }
        grafts
    }
}

/// A private mount namespace that this process has entered.
pub struct Namespace {
    signals: Signals,
}

impl Namespace {
    /// Enters one. The process must have a single thread still.
    ///
    /// # Errors
    /// The machine forbids namespaces, or has a genuine TEE device and `beside_real_tee` is not set.
    pub fn enter(beside_real_tee: bool) -> Result<Self, ShellError> {
        refuse_real_tee(beside_real_tee)?;
        let signals = Signals::block()?;
        namespace::enter()?;
        Ok(Self { signals })
    }

    /// Puts everything in its place, runs CMD, and gives how it ended.
    ///
    /// The session ends with CMD. Programs that CMD left behind find their files disconnected (`ENOTCONN`) once this
    /// process ends, and the mounts go away with the last of them.
    ///
    /// # Errors
    /// The machine forbids mounts, or lacks FUSE.
    pub fn run(self, served: Served, command: &[OsString]) -> Result<Ended, ShellError> {
        let (server, places) = served.into_server()?;
        let (staging, fuse) = Staging::mount()?;
        let shared = server.shared();
        let session = Session::from_fd(server, fuse, SessionACL::All, Config::default())
            .and_then(Session::spawn)
            .inspect(|session| shared.notify_through(session.notifier()))
            .map_err(ShellError::failed("serving FUSE"))?;
        places.grafts(&staging.path).apply()?;
        staging.unmount()?;
        let ended = self.signals.run(command, None);
        // Dropping the session would wait for nothing; the process ends next, and the kernel ends the connection.
        drop(session);
        ended
    }
}

fn refuse_real_tee(beside_real_tee: bool) -> Result<(), ShellError> {
    match find_real_tee(Path::new("/")) {
        Some(sign) if !beside_real_tee => Err(ShellError::RealTee(sign)),
        _ => Ok(()),
    }
}

/// What is served at a directory, without a namespace: `sys/kernel/config`, `dev/…` below it.
pub struct Directory {
    signals: Signals,
    path: PathBuf,
    session: BackgroundSession,
    watcher: Watcher,
}

impl Directory {
    /// Mounts the tree at a directory: as root itself, otherwise by `fusermount3`. Another process sees to it that the
    /// directory is unmounted if this one is killed.
    ///
    /// # Errors
    /// The machine forbids it, or has a genuine TEE device and `beside_real_tee` is not set.
    pub fn serve(served: Served, path: &Path, beside_real_tee: bool) -> Result<Self, ShellError> {
        refuse_real_tee(beside_real_tee)?;
        let usage = |error| ShellError::Usage(format!("--at {}: {error}", path.display()));
        let path = path.canonicalize().map_err(usage)?;
        if !path.is_dir() {
            return Err(ShellError::Usage(format!("--at {}: not a directory", path.display())));
        }
        let signals = Signals::block()?;
        let (server, _) = served.into_server()?;
        let mut config = Config::default();
        config.mount_options = vec![
            MountOption::FSName("tsmsim".to_owned()),
            MountOption::Subtype("tsmsim".to_owned()),
            MountOption::DefaultPermissions,
            MountOption::NoSuid,
            MountOption::NoDev,
            MountOption::NoExec,
        ];
        // Others are let in by root alone: /etc/fuse.conf has to allow it to anybody else.
        config.acl = if geteuid().is_root() { SessionACL::All } else { SessionACL::Owner };
        let shared = server.shared();
        let watcher = Watcher::start(&path)?;
        match Session::new(server, &path, &config).and_then(Session::spawn) {
            Ok(session) => {
                shared.notify_through(session.notifier());
                Ok(Self { signals, path, session, watcher })
            }
            Err(error) => {
                watcher.dismiss();
                Err(not_mounted(&path, &error))
            }
        }
    }

    /// Where.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Runs CMD, which finds the directory in `TSMSIM_ROOT`; without CMD, waits for `SIGINT` or `SIGTERM`. Then the
    /// directory is what it was.
    ///
    /// # Errors
    /// CMD cannot be started, or the directory not be unmounted.
    pub fn run(self, command: &[OsString]) -> Result<Ended, ShellError> {
        let ended = if command.is_empty() {
            self.signals.wait_for_end().map(|()| Ended::Exited(0))
        } else {
            self.signals.run(command, Some(self.path.as_os_str()))
        };
        let unmounted = unmount(&self.path);
        drop(self.session);
        self.watcher.dismiss();
        unmounted.map_err(ShellError::failed_with(format!("unmounting {}", self.path.display())))?;
        ended
    }
}

fn not_mounted(path: &Path, error: &std::io::Error) -> ShellError {
    let advice = if geteuid().is_root() {
        "load the kernel's module (`modprobe fuse`); in a container pass --cap-add SYS_ADMIN --device /dev/fuse"
    } else {
        "install fusermount3 (package fuse3), with which users may mount FUSE, and have /dev/fuse (`modprobe fuse`)"
    };
    ShellError::Lacking(format!("mounting FUSE on {}: {error}; {advice}", path.display()))
}

#[cfg(test)]
#[path = "session_tests.rs"]
mod tests;
