//! Adds names to directories in which no name can be made: sysfs, and the host's `/dev`.
//!
//! A name that exists is mounted over. To add one that does not, its directory is covered by a tmpfs in which everything
//! that was there is bound again (symbolic links are made again), and the name is added to that. The tmpfs belongs to
//! the private mount namespace, so the host's directories are never written. Binds are recursive: mounts inside stay,
//! and in a user namespace the kernel allows nothing else.

use std::{
    collections::BTreeMap,
    ffi::{OsStr, OsString},
    fs::{self, DirBuilder, File, FileType, OpenOptions, Permissions},
    io,
    os::{
        fd::AsRawFd,
        unix::fs::{DirBuilderExt, FileTypeExt, MetadataExt, OpenOptionsExt, PermissionsExt, symlink},
    },
    path::{Component, Path, PathBuf},
};

use nix::{
    errno::Errno,
    fcntl::OFlag,
    mount::{MsFlags, mount},
    unistd::{AccessFlags, access},
};

use super::error::ShellError;

/// What is put at a name.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) enum Graft {
    /// A bind of this file or directory.
    Bind(PathBuf),
    /// A symbolic link with this target.
    Symlink(PathBuf),
}

/// What is to be added, by directory.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub(super) struct Grafts(BTreeMap<OsString, Addition>);

#[derive(Clone, PartialEq, Eq, Debug)]
enum Addition {
    Leaf(Graft),
    Below(Grafts),
}

/// Where the host's `/dev` is kept for [`ptmx`](Covered::ptmx).
const WHOLE: &str = ".tsmsim";

impl Grafts {
    /// Adds a graft at an absolute path.
    pub(super) fn add(&mut self, path: &Path, graft: Graft) {
        let names: Vec<&OsStr> = path
            .components()
            .filter_map(|component| match component {
                Component::Normal(name) => Some(name),
                _ => None,
            })
            .collect();
        let Some((last, directories)) = names.split_last() else { return };
        let mut at = self;
        for name in directories {
            let below = at.0.entry((*name).to_owned()).or_insert_with(|| Addition::Below(Self::default()));
            let Addition::Below(next) = below else { return };
            at = next;
        }
        at.0.insert((*last).to_owned(), Addition::Leaf(graft));
    }

    /// Puts everything in its place, in the current mount namespace.
    pub(super) fn apply(&self) -> Result<(), ShellError> {
        self.apply_in(Path::new("/"))
    }

    fn apply_in(&self, directory: &Path) -> Result<(), ShellError> {
        let fits = self.0.iter().all(|(name, addition)| addition.fits(&directory.join(name)));
        if !fits {
            if directory == Path::new("/") {
                let missing = self.0.keys().map(|name| format!("/{}", name.display()));
                let missing = missing.collect::<Vec<_>>().join(" and ");
                return Err(ShellError::Lacking(format!("{missing} must exist and be directories")));
            }
            self.cover(directory)?;
        }
        for (name, addition) in &self.0 {
            let path = directory.join(name);
            match addition {
                Addition::Leaf(graft) => graft.put(&path)?,
                Addition::Below(grafts) => grafts.apply_in(&path)?,
            }
        }
        Ok(())
    }

    /// Covers a directory with a tmpfs that shows the same, and has a place for each addition.
    fn cover(&self, directory: &Path) -> Result<(), ShellError> {
        let failed = || ShellError::failed(format!("covering {}", directory.display()));
        let covered = Covered::open(directory).map_err(failed())?;
        let mode = fs::metadata(directory).map_err(failed())?.mode() & 0o777;
        mount_tmpfs(directory, mode)?;
        let is_leaf = |name: &OsStr| matches!(self.0.get(name), Some(Addition::Leaf(_)));
        for (name, kind) in covered.children.iter().filter(|(name, _)| !is_leaf(name)) {
            if let Err(error) = covered.show(name, *kind, directory) {
                // Gone meanwhile, or not to be bound: a program that needs it will say so.
                tracing::debug!("{} is not shown: {error}", directory.join(name).display());
            }
        }
        for (name, addition) in &self.0 {
            addition.make_place(&directory.join(name)).map_err(failed())?;
        }
        Ok(())
    }
}

impl Addition {
    /// Whether the addition can be put there without covering the directory.
    fn fits(&self, path: &Path) -> bool {
        let Ok(there) = fs::symlink_metadata(path) else { return false };
        match self {
            Self::Below(_) => there.is_dir(),
            Self::Leaf(Graft::Bind(source)) => {
                !there.is_symlink()
                    && fs::metadata(source).is_ok_and(|source| source.is_dir() == there.is_dir())
            }
            Self::Leaf(Graft::Symlink(target)) => fs::read_link(path).is_ok_and(|is| is == *target),
        }
    }

    /// Makes what the addition is mounted on, in a directory of our own.
    fn make_place(&self, path: &Path) -> io::Result<()> {
        match self {
            Self::Below(_) => ensure_directory(path),
            Self::Leaf(Graft::Bind(source)) if source.is_dir() => ensure_directory(path),
            Self::Leaf(Graft::Bind(_)) => make_file(path),
            Self::Leaf(Graft::Symlink(target)) => symlink(target, path),
        }
    }
}

impl Graft {
    fn put(&self, path: &Path) -> Result<(), ShellError> {
        match self {
            Self::Bind(source) => {
                bind(source, path).map_err(ShellError::failed_with(format!("binding {}", path.display())))
            }
            Self::Symlink(_) => Ok(()),
        }
    }
}

/// A directory that is about to be covered.
struct Covered {
    /// Leads to the directory below the cover.
    handle: File,
    children: Vec<(OsString, FileType)>,
}

impl Covered {
    fn open(directory: &Path) -> io::Result<Self> {
        let flags = OFlag::O_PATH | OFlag::O_DIRECTORY;
        let handle = OpenOptions::new().read(true).custom_flags(flags.bits()).open(directory)?;
        let mut children = Vec::new();
        for entry in fs::read_dir(directory)? {
            let entry = entry?;
            children.push((entry.file_name(), entry.file_type()?));
        }
        Ok(Self { handle, children })
    }

    fn path(&self) -> PathBuf {
        PathBuf::from(format!("/proc/self/fd/{}", self.handle.as_raw_fd()))
    }

    /// Shows a child in the cover as it is below.
    fn show(&self, name: &OsStr, kind: FileType, directory: &Path) -> io::Result<()> {
        let (source, target) = (self.path().join(name), directory.join(name));
        if kind.is_symlink() {
            return symlink(fs::read_link(source)?, target);
        }
        if kind.is_char_device() && name == "ptmx" {
            return self.ptmx(directory);
        }
        if kind.is_dir() {
            make_directory(&target)?;
        } else {
            make_file(&target)?;
        }
        Ok(bind(&source, &target)?)
    }

    /// `/dev/ptmx` looks for `pts` beside itself (`fs/devpts/inode.c`, `devpts_ptmx_path`) and so cannot be bound alone.
    /// The one inside `pts` does the same, where it may be opened; otherwise the whole directory is bound once more,
    /// under a name that starts with a dot, and the link leads there.
    fn ptmx(&self, directory: &Path) -> io::Result<()> {
        let usable = access(&self.path().join("pts/ptmx"), AccessFlags::R_OK | AccessFlags::W_OK);
        if usable.is_ok() {
            return symlink("pts/ptmx", directory.join("ptmx"));
        }
        let whole = directory.join(WHOLE);
        make_directory(&whole)?;
        bind(&self.path(), &whole)?;
        symlink(Path::new(WHOLE).join("ptmx"), directory.join("ptmx"))
    }
}

fn mount_tmpfs(directory: &Path, mode: u32) -> Result<(), ShellError> {
    let options = format!("mode={mode:o}");
    mount(Some("tsmsim"), directory, Some("tmpfs"), MsFlags::MS_NOSUID, Some(options.as_str())).map_err(
        |errno| {
            let as_user = !nix::unistd::geteuid().is_root();
            ShellError::no_mount(&format!("a tmpfs on {}", directory.display()), errno, as_user)
        },
    )
}

fn bind(source: &Path, target: &Path) -> Result<(), Errno> {
    mount(Some(source), target, None::<&str>, MsFlags::MS_BIND | MsFlags::MS_REC, None::<&str>)
}

fn make_directory(path: &Path) -> io::Result<()> {
    DirBuilder::new().mode(0o755).create(path)
}

/// Makes a directory that others can use whatever the umask is, unless it is there.
fn ensure_directory(path: &Path) -> io::Result<()> {
    match make_directory(path) {
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(()),
        made => made.and_then(|()| fs::set_permissions(path, Permissions::from_mode(0o755))),
    }
}

fn make_file(path: &Path) -> io::Result<()> {
    OpenOptions::new().write(true).create_new(true).mode(0o644).open(path).map(drop)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn grafts(paths: &[&str]) -> Grafts {
        let mut grafts = Grafts::default();
        for path in paths {
            grafts.add(Path::new(path), Graft::Bind(PathBuf::from("/source")));
        }
        grafts
    }

    #[test]
    fn additions_are_kept_by_directory() {
        let both = grafts(&["/sys/kernel/config", "/sys/kernel/other"]);
        let Some(Addition::Below(sys)) = both.0.get(OsStr::new("sys")) else { panic!("{both:?}") };
        let Some(Addition::Below(kernel)) = sys.0.get(OsStr::new("kernel")) else { panic!("{sys:?}") };
        assert_eq!(kernel.0.len(), 2);
        assert_eq!(both, grafts(&["/sys/kernel/other", "/sys//kernel/./config"]));
    }

    #[test]
    fn nothing_is_added_to_the_root() {
        let error = grafts(&["/no-such-directory-here/x"]).apply().expect_err("/ cannot be covered");
        assert!(error.to_string().contains("/no-such-directory-here"), "{error}");
        assert_eq!(grafts(&["/"]), Grafts::default());
    }

    #[test]
    fn what_is_there_is_used_if_it_is_of_the_same_kind() {
        let directory = tempfile::tempdir().expect("a temporary directory");
        let (file, link) = (directory.path().join("file"), directory.path().join("link"));
        make_file(&file).expect("a file");
        symlink("file", &link).expect("a link");
        let leaf = |graft| Addition::Leaf(graft);
        assert!(leaf(Graft::Bind(file.clone())).fits(&file));
        assert!(!leaf(Graft::Bind(directory.path().to_owned())).fits(&file));
        assert!(!leaf(Graft::Bind(file.clone())).fits(&link));
        assert!(leaf(Graft::Symlink("file".into())).fits(&link));
        assert!(!leaf(Graft::Symlink("other".into())).fits(&link));
        assert!(!Addition::Below(Grafts::default()).fits(&file));
        assert!(Addition::Below(Grafts::default()).fits(directory.path()));
    }
}
