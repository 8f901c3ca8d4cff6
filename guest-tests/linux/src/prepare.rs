//! What has to be there before a command can run.

use std::ffi::CString;
use std::fs::{self, File};
use std::io::ErrorKind;
use std::path::Path;

use nix::errno::Errno;
use nix::kmod::{ModuleInitFlags, finit_module};
use nix::mount::{MsFlags, mount};
use tsmsim_abi::linux_boot::SetupDataType;
use tsmsim_abi::linux_guest::{CONFIGURATION, INBLOB, MODULES, OUT, TASK_MAGIC, Task};
use zerocopy::FromBytes;

use crate::channel::Channel;
use crate::configuration::{Configuration, Module};
use crate::{line, parameters};

/// File systems that every guest has: type, where, options.
const MOUNTS: [(&str, &str, MsFlags); 6] = [
    ("proc", "/proc", HARMLESS),
    ("sysfs", "/sys", HARMLESS),
    ("devtmpfs", "/dev", MsFlags::MS_NOSUID),
    ("devpts", "/dev/pts", MsFlags::MS_NOSUID.union(MsFlags::MS_NOEXEC)),
    ("tmpfs", "/tmp", MsFlags::MS_NOSUID.union(MsFlags::MS_NODEV)),
    ("tmpfs", "/run", MsFlags::MS_NOSUID.union(MsFlags::MS_NODEV)),
];
const HARMLESS: MsFlags = MsFlags::MS_NOSUID.union(MsFlags::MS_NODEV).union(MsFlags::MS_NOEXEC);
const CONFIGFS: &str = "/sys/kernel/config";
const SETUP_DATA: &str = "/sys/kernel/boot_params/setup_data";

/// Mounts everything that needs no module, and makes the directories that programs expect.
pub(crate) fn mount_all() -> Result<(), String> {
    for (kind, path, flags) in MOUNTS {
        mount_at(kind, path, flags)?;
    }
    for directory in [OUT, "/root", "/tsmsim"] {
        fs::create_dir_all(directory).map_err(|error| format!("{directory}: {error}"))?;
    }
    // What shells expect; a devtmpfs has none of them.
    for (name, target) in [("fd", "/proc/self/fd"), ("stdin", "fd/0"), ("stdout", "fd/1"), ("stderr", "fd/2")]
    {
        let made = std::os::unix::fs::symlink(target, format!("/dev/{name}"));
        made.or_else(|error| if error.kind() == ErrorKind::AlreadyExists { Ok(()) } else { Err(error) })
            .map_err(|error| format!("/dev/{name}: {error}"))?;
    }
    Ok(())
}

fn mount_at(kind: &str, path: &str, flags: MsFlags) -> Result<(), String> {
    let problem = |what: &dyn std::fmt::Display| format!("mounting {kind} at {path}: {what}");
    match fs::create_dir_all(path) {
        // In sysfs there are the kernel's own directories, and none can be made: it has no configfs, or no module for it.
        Err(error) if kind == "configfs" && error.kind() == ErrorKind::PermissionDenied => return Ok(()),
        made => made.map_err(|error| problem(&error))?,
    }
    match mount(Some(kind), path, Some(kind), flags, None::<&str>) {
        // The kernel may have mounted it, or have been built without it.
        Ok(()) | Err(Errno::EBUSY) => Ok(()),
        Err(Errno::ENODEV) if matches!(kind, "devpts" | "configfs") => Ok(()),
        Err(error) => Err(problem(&error)),
    }
}

/// Reads the configuration and the task, loads the modules, mounts configfs.
pub(crate) fn configuration(channel: &Channel) -> Result<Configuration, String> {
    let text = fs::read(CONFIGURATION).map_err(|error| format!("{CONFIGURATION}: {error}"))?;
    let configuration = Configuration::parse(&text)?;
    // Only an x86 kernel has setup_data.
    let task =
        if cfg!(target_arch = "x86_64") { setup_data(Path::new(SETUP_DATA)) } else { line::task(channel) };
    if let Some(inblob) = task.as_deref().and_then(inblob) {
        fs::write(INBLOB, inblob).map_err(|error| format!("{INBLOB}: {error}"))?;
    }
    let command_line = fs::read(parameters::COMMAND_LINE)
        .map_err(|error| format!("{}: {error}", parameters::COMMAND_LINE))?;
    for module in &configuration.modules {
        if let Err(problem) = load(module, &command_line) {
            if !module.optional {
                return Err(problem);
            }
            channel.log(&format!("optional {problem}"));
        }
    }
    mount_at("configfs", CONFIGFS, HARMLESS)?;
    Ok(configuration)
}

fn load(module: &Module, command_line: &[u8]) -> Result<(), String> {
    let path = Path::new(MODULES).join(&module.file);
    let name = path.file_stem().unwrap_or_default().to_string_lossy();
    let parameters = parameters::of_module(command_line, &name);
    let problem = |what: &dyn std::fmt::Display| {
        let parameters = String::from_utf8_lossy(&parameters);
        format!("{}: {what}", format!("module {} {parameters}", module.file.display()).trim_end())
    };
    let file = File::open(&path).map_err(|error| problem(&error))?;
    let given = CString::new(parameters.as_slice()).map_err(|error| problem(&error))?;
    match finit_module(&file, &given, ModuleInitFlags::empty()) {
        // Built in, or loaded on demand.
        Ok(()) | Err(Errno::EEXIST) => Ok(()),
        Err(error) => Err(problem(&error)),
    }
}

/// The first task in the list of `setup_data`.
fn setup_data(list: &Path) -> Option<Vec<u8>> {
    for entry in fs::read_dir(list).ok()?.flatten() {
        let kind = fs::read_to_string(entry.path().join("type")).unwrap_or_default();
        let digits = kind.trim().trim_start_matches("0x");
        if u32::from_str_radix(digits, 16).ok() == Some(SetupDataType::TSMSIM_TASK.0) {
            return fs::read(entry.path().join("data")).ok();
        }
    }
    None
}

/// What the host wants in the report.
fn inblob(task: &[u8]) -> Option<Vec<u8>> {
    let (task, _) = Task::read_from_prefix(task).ok()?;
    let length = usize::try_from(task.inblob_len.get()).ok()?;
    (task.magic == TASK_MAGIC).then(|| task.inblob.get(..length).map(<[u8]>::to_vec))?
}

#[cfg(test)]
mod tests {
    use rstest::rstest;
    use zerocopy::{FromZeros, IntoBytes};

    use super::*;

    #[rstest]
    #[case::there("0x4d535401\n", TASK_MAGIC, 3, Some(b"abc".to_vec()))]
    #[case::another_node("0x7\n", TASK_MAGIC, 3, None)]
    #[case::another_magic("0x4d535401\n", *b"12345678", 3, None)]
    #[case::too_long("0x4d535401\n", TASK_MAGIC, 65, None)]
    #[case::empty("0x4d535401\n", TASK_MAGIC, 0, Some(Vec::new()))]
    fn the_task(
        #[case] kind: &str,
        #[case] magic: [u8; 8],
        #[case] length: u32,
        #[case] expected: Option<Vec<u8>>,
    ) {
        let directory = tempfile::tempdir().unwrap();
        let node = directory.path().join("1");
        fs::create_dir(&node).unwrap();
        let mut task = Task { magic, inblob_len: length.into(), ..Task::new_zeroed() };
        task.inblob[..3].copy_from_slice(b"abc");
        fs::write(node.join("type"), kind).unwrap();
        fs::write(node.join("data"), task.as_bytes()).unwrap();
        let task = setup_data(directory.path());
        assert_eq!(task.as_deref().and_then(inblob), expected);
    }

    #[test]
    fn no_task_without_a_list() {
        assert_eq!(setup_data(Path::new("/nowhere/at/all")), None);
    }
}
