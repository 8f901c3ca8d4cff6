//! What a confidential guest shows of its driver, besides configfs: device files, sysfs, ACPI tables.
//!
//! The `dev` attributes of the devices are left out: the device files are not character devices and have no numbers.

use std::sync::Arc;

use nix::errno::Errno;

use super::{
    session::Served,
    tree::{FixedFile, SysfsFile, Tree},
};
use crate::{
    configfs::{Configfs, KernelStyle},
    drivers::{
        cove_guest::CoveGuest,
        sev_guest::SevGuest,
        tdx_guest::{MeasurementFile, TdxGuest},
    },
    provider::Provider,
};

/// Permission bits of a misc device's file unless its driver says otherwise (`drivers/char/misc.c`).
const DEVICE_MODE: u16 = 0o600;

/// Permission bits of ACPI tables in sysfs (`drivers/acpi/sysfs.c`).
const ACPI_MODE: u16 = 0o400;

impl Served {
    /// An SEV-SNP guest: `/dev/sev-guest`, the platform device that agents look for, configfs.
    ///
    /// # Errors
    /// None that is expected: a new configfs takes a provider.
    pub fn sev_guest(guest: &SevGuest, style: KernelStyle) -> Result<Self, Errno> {
        let mut tree = Tree::new();
        tree.add_device("/dev/sev-guest", Box::new(guest.clone()), DEVICE_MODE);
        let platform = "/sys/devices/platform/sev-guest";
        let uevent = b"DRIVER=sev-guest\nMODALIAS=platform:sev-guest\n".to_vec();
        tree.add_file(format!("{platform}/uevent"), FixedFile::new(uevent, 0o644));
        tree.add_file(
            format!("{platform}/modalias"),
            FixedFile::new(b"platform:sev-guest\n".to_vec(), 0o444),
        );
        tree.add_symlink(format!("{platform}/subsystem"), "../../../bus/platform");
        add_misc(&mut tree, "sev-guest");
        Self::with(tree, Box::new(guest.clone()), style)
    }

    /// A TD: `/dev/tdx_guest`, the measurement registers if the kernel has them, the event log if something was measured,
    /// configfs.
    ///
    /// # Errors
    /// None that is expected: a new configfs takes a provider.
    pub fn tdx_guest(guest: &TdxGuest, style: KernelStyle) -> Result<Self, Errno> {
        let mut tree = Tree::new();
        tree.add_device("/dev/tdx_guest", Box::new(guest.clone()), DEVICE_MODE);
        add_misc(&mut tree, "tdx_guest");
        for (index, file) in guest.measurements().iter().enumerate() {
            let path = format!("/sys/devices/virtual/misc/tdx_guest/measurements/{}", file.name);
            tree.add_file(path, Measurement { guest: guest.clone(), index, file });
        }
        let tables = "/sys/firmware/acpi/tables";
        if let Some(table) = guest.ccel_table() {
            tree.add_file(format!("{tables}/CCEL"), FixedFile::new(table.to_vec(), ACPI_MODE));
        }
        if let Some(log) = guest.ccel_data() {
            tree.add_file(format!("{tables}/data/CCEL"), FixedFile::new(log, ACPI_MODE));
        }
        Self::with(tree, Box::new(guest.clone()), style)
    }

    /// A TVM: configfs alone. It has no device file.
    ///
    /// # Errors
    /// None that is expected: a new configfs takes a provider.
    pub fn cove_guest(guest: &CoveGuest, style: KernelStyle) -> Result<Self, Errno> {
        Self::with(Tree::new(), Box::new(guest.clone()), style)
    }

    fn with(tree: Tree, provider: Box<dyn Provider>, style: KernelStyle) -> Result<Self, Errno> {
        let configfs = Configfs::new(style);
        configfs.register(provider)?;
        Ok(Self { configfs: Arc::new(configfs), tree })
    }
}

/// The sysfs directory of a misc device, and its place in the class.
fn add_misc(tree: &mut Tree, name: &str) {
    let directory = format!("/sys/devices/virtual/misc/{name}");
    let uevent = format!("DEVNAME={name}\n").into_bytes();
    tree.add_file(format!("{directory}/uevent"), FixedFile::new(uevent, 0o644));
    tree.add_symlink(format!("{directory}/subsystem"), "../../../../class/misc");
    tree.add_symlink(format!("/sys/class/misc/{name}"), format!("../../devices/virtual/misc/{name}"));
}

/// A measurement register: reading gives its value, writing extends it.
struct Measurement {
    guest: TdxGuest,
    index: usize,
    file: &'static MeasurementFile,
}

impl SysfsFile for Measurement {
    fn mode(&self) -> u16 {
        u16::try_from(self.file.mode & 0o777).unwrap_or(0)
    }

    fn size(&self) -> u64 {
        self.file.size
    }

    fn read(&self, offset: u64, len: usize) -> Result<Vec<u8>, Errno> {
        self.guest.read_measurement(self.index, offset, len)
    }

    fn write(&self, offset: u64, data: &[u8]) -> Result<usize, Errno> {
        self.guest.write_measurement(self.index, offset, data)
    }
}
