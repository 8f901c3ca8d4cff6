//! Modules of a kernel package: found, decompressed, in the order in which they have to be loaded.
//!
//! A directory of modules is what a package installs as `lib/modules/RELEASE`. Its `modules.dep` is made by `depmod` when
//! the package is installed; a package that was only unpacked has none, and then each module's own list of what it
//! depends on is read (the `.modinfo` section).

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, File};
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use ::elf::{ElfBytes, endian::LittleEndian};
use thiserror::Error;

use super::decompress::{Compression, DecompressError};

/// Most bytes of a module, decompressed.
const MAX_MODULE: usize = 64 << 20;
/// Most bytes of a list.
const MAX_LIST: usize = 16 << 20;
/// Most files and directories below a directory of modules; Debian's largest kernel has 4,500.
const MAX_ENTRIES: usize = 100_000;
/// How deep directories may lie in each other.
const MAX_DEPTH: usize = 16;

/// Why modules could not be had.
#[derive(Debug, Error)]
pub enum ModuleError {
    /// A file or directory cannot be read.
    #[error("{}: {source}", .path.display())]
    Unreadable {
        /// Which.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// There is no such module.
    #[error("module {name} is neither in {} nor built into that kernel{}", .directory.display(), needed(.by.as_ref()))]
    Missing {
        /// Its name.
        name: String,
        /// Where it was looked for.
        directory: PathBuf,
        /// The module that needs it.
        by: Option<String>,
    },
    /// A module is too large, or the directory too full.
    #[error("{}: {problem}", .path.display())]
    Limit {
        /// Which.
        path: PathBuf,
        /// What is exceeded.
        problem: &'static str,
    },
    /// A module cannot be decompressed.
    #[error("{}: {source}", .path.display())]
    Decompress {
        /// Which.
        path: PathBuf,
        /// Why.
        source: DecompressError,
    },
    /// A module is no module.
    #[error("{}: not a kernel module: {problem}", .path.display())]
    Malformed {
        /// Which.
        path: PathBuf,
        /// Why.
        problem: String,
    },
}

fn needed(by: Option<&String>) -> String {
    by.map_or_else(String::new, |by| format!("; {by} needs it"))
}

/// A module to load.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Module {
    /// Its name, with underscores: `sev_guest`.
    pub name: String,
    /// Its contents, decompressed, with the signature that may be behind.
    pub bytes: Vec<u8>,
    /// Whether the guest may go without it.
    pub optional: bool,
}

/// A module that somebody wants.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Wanted<'a> {
    /// Its name, with hyphens or underscores.
    pub name: &'a str,
    /// Whether the guest may go without it.
    pub optional: bool,
}

const fn required(name: &str) -> Wanted<'_> {
    Wanted { name, optional: false }
}

const fn optional(name: &str) -> Wanted<'_> {
    Wanted { name, optional: true }
}

/// What `sev-guest` needs. Before Linux 6.14 it asks the kernel's cryptography for `gcm(aes)` by name, so no list of
/// dependencies says that; later it brings its own.
pub const SNP_MODULES: [Wanted<'_>; 6] = [
    optional("ctr"),
    optional("aes_generic"),
    optional("gcm"),
    optional("ghash-generic"),
    optional("crypto_null"),
    required("sev-guest"),
];
/// What `tdx-guest` needs.
pub const TDX_MODULES: [Wanted<'_>; 1] = [required("tdx-guest")];

/// What a TVM needs: a module of this repository, which needs the kernel's own `tsm`; Debian's kernels for RISC-V have neither.
pub const COVE_MODULES: [Wanted<'_>; 1] = [required("cove-guest")];

/// A directory of modules.
#[derive(Clone, Debug)]
pub struct ModuleDirectory {
    path: PathBuf,
    files: BTreeMap<String, PathBuf>,
    built_in: BTreeSet<String>,
    /// From `modules.dep`.
    dependencies: Option<BTreeMap<String, Vec<String>>>,
}

impl ModuleDirectory {
    /// Looks through a directory `lib/modules/RELEASE`. Symbolic links in it are not followed.
    ///
    /// # Errors
    /// [`ModuleError::Unreadable`], [`ModuleError::Limit`].
    pub fn open(path: &Path) -> Result<Self, ModuleError> {
        let mut files = BTreeMap::new();
        let mut entries = 0;
        find(path, 0, &mut entries, &mut files)?;
        let built_in = list(&path.join("modules.builtin"))?.unwrap_or_default();
        let built_in = built_in.lines().filter_map(module_name).collect();
        let dependencies = list(&path.join("modules.dep"))?.map(|text| dependencies(&text));
        Ok(Self { path: path.to_path_buf(), files, built_in, dependencies })
    }

    /// The kernel's release: the directory's name.
    #[must_use]
    pub fn release(&self) -> Option<&str> {
        self.path.file_name()?.to_str()
    }

    /// Whether a module is there, or built in.
    #[must_use]
    pub fn has(&self, name: &str) -> bool {
        let name = name.replace('-', "_");
        self.files.contains_key(&name) || self.built_in.contains(&name)
    }

    /// The modules that were asked for and those that they depend on, each once, each behind those that it needs. What is
    /// built in is left out, and so is what may be missing and is.
    ///
    /// # Errors
    /// [`ModuleError`]: a module that is missing, or cannot be read.
    pub fn load(&self, wanted: &[Wanted<'_>]) -> Result<Vec<Module>, ModuleError> {
        let mut loading = Loading { directory: self, seen: BTreeSet::new(), modules: Vec::new() };
        for module in wanted {
            let name = module.name.replace('-', "_");
            if !module.optional || self.has(&name) {
                loading.add(&name, None, module.optional)?;
            }
        }
        Ok(loading.modules)
    }

    /// What a module depends on directly, or, by `modules.dep`, at all.
    fn needs(&self, name: &str, path: &Path, bytes: &[u8]) -> Result<Vec<String>, ModuleError> {
        if let Some(known) = self.dependencies.as_ref().and_then(|all| all.get(name)) {
            return Ok(known.clone());
        }
        depends(bytes).map_err(|problem| ModuleError::Malformed { path: path.to_path_buf(), problem })
    }
}

struct Loading<'a> {
    directory: &'a ModuleDirectory,
    seen: BTreeSet<String>,
    modules: Vec<Module>,
}

impl Loading<'_> {
    /// Depth first; a module that is needed in a circle is added once. As each module is entered once, the depth is
    /// bounded by how many there are.
    fn add(&mut self, name: &str, by: Option<&str>, optional: bool) -> Result<(), ModuleError> {
        if !self.seen.insert(name.to_owned()) {
            // Wanted by two: as strict as the stricter one.
            if let Some(module) = self.modules.iter_mut().find(|module| module.name == name) {
                module.optional &= optional;
            }
            return Ok(());
        }
        let Some(path) = self.directory.files.get(name) else {
            if self.directory.built_in.contains(name) {
                return Ok(());
            }
            return Err(ModuleError::Missing {
                name: name.to_owned(),
                directory: self.directory.path.clone(),
                by: by.map(str::to_owned),
            });
        };
        let bytes = contents(path)?;
        for needed in self.directory.needs(name, path, &bytes)? {
            self.add(&needed, Some(name), optional)?;
        }
        self.modules.push(Module { name: name.to_owned(), bytes, optional });
        Ok(())
    }
}

fn unreadable(path: &Path) -> impl FnOnce(io::Error) -> ModuleError {
    let path = path.to_path_buf();
    move |source| ModuleError::Unreadable { path, source }
}

/// Collects the files of modules below a directory.
fn find(
    directory: &Path,
    depth: usize,
    entries: &mut usize,
    files: &mut BTreeMap<String, PathBuf>,
) -> Result<(), ModuleError> {
    let limit = |problem| ModuleError::Limit { path: directory.to_path_buf(), problem };
    for entry in fs::read_dir(directory).map_err(unreadable(directory))? {
        let entry = entry.map_err(unreadable(directory))?;
        *entries += 1;
        if *entries > MAX_ENTRIES {
            return Err(limit("too many files for a directory of modules"));
        }
        let kind = entry.file_type().map_err(unreadable(&entry.path()))?;
        if kind.is_dir() {
            if depth == MAX_DEPTH {
                return Err(limit("directories lie too deep in each other"));
            }
            find(&entry.path(), depth + 1, entries, files)?;
        } else if kind.is_file()
            && let Some(name) = entry.file_name().to_str().and_then(module_name)
        {
            files.insert(name, entry.path());
        }
    }
    Ok(())
}

/// `kernel/fs/configfs/configfs.ko.xz` is `configfs`.
fn module_name(path: &str) -> Option<String> {
    let file = path.trim().rsplit('/').next()?;
    let (name, suffix) = file.split_once(".ko")?;
    matches!(suffix, "" | ".gz" | ".xz" | ".zst").then(|| name.replace('-', "_"))
}

/// A list, if it is there.
fn list(path: &Path) -> Result<Option<String>, ModuleError> {
    match read(path, MAX_LIST) {
        Ok(bytes) => Ok(Some(String::from_utf8_lossy(&bytes).into_owned())),
        Err(ModuleError::Unreadable { source, .. }) if source.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}

fn read(path: &Path, limit: usize) -> Result<Vec<u8>, ModuleError> {
    let file = File::open(path).map_err(unreadable(path))?;
    let mut bytes = Vec::new();
    let most = u64::try_from(limit).unwrap_or(u64::MAX).saturating_add(1);
    file.take(most).read_to_end(&mut bytes).map_err(unreadable(path))?;
    if bytes.len() > limit {
        return Err(ModuleError::Limit { path: path.to_path_buf(), problem: "too large" });
    }
    Ok(bytes)
}

/// A module's contents; compressed or not is told by its first bytes.
fn contents(path: &Path) -> Result<Vec<u8>, ModuleError> {
    let bytes = read(path, MAX_MODULE)?;
    let Some(compression) = Compression::of(&bytes) else {
        return Ok(bytes);
    };
    let failed = |source| ModuleError::Decompress { path: path.to_path_buf(), source };
    compression.decompress(&bytes, MAX_MODULE).map_err(failed)
}

/// `modules.dep`: a path, a colon, and the paths that it needs, those last that have to be loaded first.
fn dependencies(text: &str) -> BTreeMap<String, Vec<String>> {
    let line = |line: &str| {
        let (module, needs) = line.split_once(':')?;
        let needs = needs.split_ascii_whitespace().rev().filter_map(module_name).collect();
        Some((module_name(module)?, needs))
    };
    text.lines().filter_map(line).collect()
}

/// The names after `depends=` in the section `.modinfo`.
fn depends(bytes: &[u8]) -> Result<Vec<String>, String> {
    let file = ElfBytes::<LittleEndian>::minimal_parse(bytes).map_err(|error| error.to_string())?;
    let section = file.section_header_by_name(".modinfo").map_err(|error| error.to_string())?;
    let section = section.ok_or("it has no .modinfo section")?;
    let (data, _) = file.section_data(&section).map_err(|error| error.to_string())?;
    let mut records = data.split(|&byte| byte == 0);
    let names = records.find_map(|record| record.strip_prefix(b"depends=")).unwrap_or_default();
    let names = String::from_utf8_lossy(names);
    Ok(names.split(',').filter(|name| !name.is_empty()).map(|name| name.replace('-', "_")).collect())
}

#[cfg(test)]
#[path = "modules_tests.rs"]
mod tests;
