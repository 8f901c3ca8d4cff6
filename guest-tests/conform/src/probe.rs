//! What there is to test: the provider, the file system, the generation of the interface.

use std::{
    path::{Path, PathBuf},
    process,
    sync::Mutex,
};

use nix::{
    errno::Errno,
    sys::{
        statfs::{FsType, statfs},
        utsname::uname,
    },
};

use crate::{
    Lacking, Options,
    context::{Context, Provider, Style},
    outcome, sys,
};

/// `CONFIGFS_MAGIC`.
const CONFIGFS: u32 = 0x6265_6570;
/// `FUSE_SUPER_MAGIC`.
const FUSE: u32 = 0x6573_5546;

/// Makes an entry, asks who provides it, and removes it.
///
/// # Errors
/// If there is no configfs-tsm, or none that this user may use.
pub(crate) fn probe(options: &Options) -> Result<Context, Lacking> {
    let report = std::path::absolute(&options.path).unwrap_or_else(|_| options.path.clone());
    let path = report.join(format!("tsmsim-conform.{}.probe", process::id()));
    sys::mkdir(&path).map_err(|errno| lacking(&report, errno))?;
    let looked = look(&path);
    let removed = sys::rmdir(&path);
    let (provider, service) = looked.map_err(|errno| no_attributes(&report, errno))?;
    removed.map_err(|errno| no_attributes(&report, errno))?;
    let device = options.device.clone().or_else(|| device(&provider));
    let fuse = is(&report, FUSE);
    let style = options.style.unwrap_or_else(|| style(&provider, is(&report, CONFIGFS)));
    Ok(Context {
        report,
        provider,
        style,
        device,
        threads: options.threads,
        slow: options.slow,
        extend: options.extend,
        fuse,
        service,
        told: Mutex::new(None),
        #[cfg(test)]
        furnish: None,
    })
}

/// The provider and whether entries have the attributes of services.
fn look(entry: &Path) -> sys::Sys<(Provider, bool)> {
    let text = sys::read_file(&entry.join("provider"))?;
    let provider = match String::from_utf8_lossy(&text).trim_end() {
        "sev_guest" => Provider::Snp,
        "tdx_guest" => Provider::Tdx,
        "cove_guest" => Provider::Cove,
        other => Provider::Other(other.to_owned()),
    };
    Ok((provider, sys::lstat(&entry.join("service_provider")).is_ok()))
}

fn device(provider: &Provider) -> Option<PathBuf> {
    match provider {
        Provider::Snp => Some("/dev/sev-guest".into()),
        Provider::Tdx => Some("/dev/tdx_guest".into()),
        Provider::Cove | Provider::Other(_) => None,
    }
}

fn is(path: &Path, magic: u32) -> bool {
    // The type of the constant differs between C libraries.
    statfs(path).is_ok_and(|found| found.filesystem_type() == FsType(magic.into()))
}

/// The kernel's own interface goes with its release; any other shows what it imitates by what it has.
fn style(provider: &Provider, kernel: bool) -> Style {
    if kernel {
        return uname().map_or(Style::V6_12, |name| release(&name.release().to_string_lossy()));
    }
    let measured = sys::lstat(Path::new("/sys/devices/virtual/misc/tdx_guest/measurements")).is_ok();
    if *provider == Provider::Tdx && measured { Style::V6_16 } else { Style::V6_12 }
}

fn release(text: &str) -> Style {
    let mut numbers = text.split(|c: char| !c.is_ascii_digit()).map(|number| number.parse().unwrap_or(0));
    match (numbers.next().unwrap_or(0_u32), numbers.next().unwrap_or(0_u32)) {
        (7.., _) | (6, 16..) => Style::V6_16,
        (6, 11..) => Style::V6_12,
        _ => Style::V6_7,
    }
}

fn lacking(report: &Path, errno: Errno) -> Lacking {
    let place = report.display();
    let advice = match errno {
        Errno::ENOENT | Errno::ENOTDIR => {
            "it is not there. In a confidential guest: mount -t configfs configfs /sys/kernel/config and load \
             sev-guest or tdx-guest. Anywhere else: tsmsim run --tee snp -- tsmsim conform"
        }
        Errno::EACCES | Errno::EPERM => "this user may make no entries there: run it as root",
        Errno::ENXIO => "no driver provides reports: load sev-guest, tdx-guest or cove_guest",
        Errno::EROFS => "the file system is mounted read-only: mount it for writing",
        _ => "no entry can be made there",
    };
    Lacking(format!("no configfs-tsm at {place}: {advice} (mkdir: {})", outcome::name(errno)))
}

fn no_attributes(report: &Path, errno: Errno) -> Lacking {
    Lacking(format!(
        "no configfs-tsm at {}: a new directory has no attribute `provider` there ({}). Give its place with --path",
        report.display(),
        outcome::name(errno)
    ))
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;

    #[rstest]
    #[case("6.1.0-9-amd64", Style::V6_7)]
    #[case("6.7.1", Style::V6_7)]
    #[case("6.10.11", Style::V6_7)]
    #[case("6.12.57+deb12-cloud-amd64", Style::V6_12)]
    #[case("6.15", Style::V6_12)]
    #[case("6.16-rc1", Style::V6_16)]
    #[case("7.0.3", Style::V6_16)]
    #[case("nonsense", Style::V6_7)]
    fn releases_have_styles(#[case] text: &str, #[case] expected: Style) {
        assert_eq!(release(text), expected);
    }

    #[rstest]
    #[case(Errno::ENOENT, "mount -t configfs")]
    #[case(Errno::EACCES, "as root")]
    #[case(Errno::ENXIO, "load sev-guest")]
    #[case(Errno::EIO, "EIO")]
    fn what_is_lacking_says_what_to_do(#[case] errno: Errno, #[case] part: &str) {
        let Lacking(text) = lacking(Path::new("/x"), errno);
        assert!(text.contains(part), "{text}");
    }
}
