//! What a driver registers with the `tsm` core: `struct tsm_ops` of `include/linux/tsm.h`.

use nix::errno::Errno;

/// The largest `inblob`, in bytes: `TSM_INBLOB_MAX`.
pub const INBLOB_MAX: usize = 64;

/// The numerically largest privilege level: `TSM_PRIVLEVEL_MAX`.
pub const PRIVLEVEL_MAX: u32 = 3;

/// An attribute of an entry, in the order of `enum tsm_attr_index` and `enum tsm_bin_attr_index`.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum Attribute {
    /// Counts the writes to the entry's configuration.
    Generation,
    /// The provider's name.
    Provider,
    /// The privilege level of the next report (SNP: VMPL).
    Privlevel,
    /// The numerically lowest level that this guest may ask for.
    PrivlevelFloor,
    /// Who provides services: `svsm`.
    ServiceProvider,
    /// Which service, by GUID.
    ServiceGuid,
    /// Which version of the service's manifest.
    ServiceManifestVersion,
    /// The caller's data.
    Inblob,
    /// The report.
    Outblob,
    /// What comes with the report (SNP: the certificate table).
    Auxblob,
    /// The manifest of services.
    Manifestblob,
}

/// What a report is to state: `struct tsm_desc`.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct ReportRequest {
    /// The caller's data: 1 to [`INBLOB_MAX`] bytes.
    pub inblob: Vec<u8>,
    /// The privilege level.
    pub privlevel: u32,
    /// The service provider as it was written, without one newline at its end; `None` if none was written.
    pub service_provider: Option<Vec<u8>>,
    /// The GUID of the service, in the byte order of memory; zeros unless written.
    pub service_guid: [u8; 16],
    /// The version of the service's manifest.
    pub service_manifest_version: u32,
}

/// What a provider made: `outblob`, `auxblob` and `manifestblob` of `struct tsm_report`.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Blobs {
    /// The report. May be empty: `tdx-guest` of Linux 6.12 delivers that when the quoting service fails. Without one (a
    /// null pointer in Linux, which `sev-guest` leaves where the hypervisor does not serve the exit) readers see an empty
    /// file, and the next one has the provider asked again.
    pub outblob: Option<Vec<u8>>,
    /// What comes with the report.
    pub auxblob: Option<Vec<u8>>,
    /// The manifest of services.
    pub manifestblob: Option<Vec<u8>>,
}

/// A driver that makes reports: `struct tsm_ops`.
///
/// It may sleep while it makes one, as the drivers of Linux do while the host is busy; what is locked meanwhile is the
/// caller's matter.
pub trait Provider: Send {
    /// The provider's name, without a newline: `sev_guest`, `tdx_guest`, `cove_guest`.
    fn name(&self) -> &'static str;

    /// `privlevel_floor`: the lowest privilege level that may be asked for.
    fn privlevel_floor(&self) -> u32 {
        0
    }

    /// `report_attr_visible` and `report_bin_attr_visible`: whether entries have the attribute.
    fn is_visible(&self, attribute: Attribute) -> bool;

    /// `report_new`: makes a report.
    ///
    /// # Errors
    /// What the reader of `outblob` is to see.
    fn report_new(&mut self, request: &ReportRequest) -> Result<Blobs, Errno>;
}
