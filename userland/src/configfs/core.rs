//! The `tsm` core: the provider, and what an entry remembers (`drivers/virt/coco/tsm.c`).

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{
    Arc, Mutex, MutexGuard, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard, TryLockError,
};

use nix::errno::Errno;

use super::limits::{Budget, Charge};
use super::parse::{c_string, guid_parse, kstrtouint};
use super::style::KernelStyle;
use crate::provider::{Attribute, Blobs, PRIVLEVEL_MAX, Provider, ReportRequest};

/// The provider and the lock over it and over every entry's state.
pub(super) struct Core {
    style: KernelStyle,
    /// `tsm_rwsem`. A [`Report`] is looked at with this held at least for reading and changed with it held for writing.
    rwsem: RwLock<Option<Registered>>,
    /// `provider.count`: the entries that were made and not removed.
    entries: AtomicUsize,
    budget: Arc<Budget>,
}

/// A registered provider. What `struct tsm_ops` states once and for all is asked once.
struct Registered {
    name: &'static str,
    privlevel_floor: u32,
    attributes: Vec<Attribute>,
    /// Only ever used with the lock held for writing; the mutex makes the whole fit for threads.
    provider: Mutex<Box<dyn Provider>>,
}

/// What an entry remembers: `struct tsm_report_state`.
#[derive(Debug, Default)]
pub(super) struct Report {
    desc: ReportRequest,
    blobs: Option<Held>,
    write_generation: u64,
    read_generation: u64,
}

/// A made report and the memory it is charged for.
#[derive(Debug)]
struct Held {
    blobs: Blobs,
    _charge: Charge,
}

/// Locks a mutex; a panic elsewhere leaves nothing half done that matters here.
pub(super) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Report {
    /// `try_advance_write_generation`.
    fn advance(&mut self) -> Result<(), Errno> {
        let next = self.write_generation.wrapping_add(1);
        if next == self.read_generation {
            return Err(Errno::EBUSY);
        }
        self.write_generation = next;
        Ok(())
    }

    /// The report, if it is the one that the present configuration asks for.
    fn fresh(&self) -> Option<&Blobs> {
        let held = self.blobs.as_ref()?;
        let fresh = held.blobs.outblob.is_some() && self.read_generation == self.write_generation;
        fresh.then_some(&held.blobs)
    }
}

/// `__read_report`: the blob that a binary attribute shows; empty where the provider made none.
fn select(blobs: &Blobs, attribute: Attribute) -> &[u8] {
    match attribute {
        Attribute::Auxblob => blobs.auxblob.as_deref().unwrap_or_default(),
        Attribute::Manifestblob => blobs.manifestblob.as_deref().unwrap_or_default(),
        _ => blobs.outblob.as_deref().unwrap_or_default(),
    }
}

impl Core {
    /// A core without a provider.
    pub(super) fn new(style: KernelStyle, budget: Arc<Budget>) -> Self {
        Self { style, rwsem: RwLock::new(None), entries: AtomicUsize::new(0), budget }
    }

    /// Which kernel is copied.
    pub(super) const fn style(&self) -> KernelStyle {
        self.style
    }

    fn down_read(&self) -> RwLockReadGuard<'_, Option<Registered>> {
        self.rwsem.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn down_write(&self) -> RwLockWriteGuard<'_, Option<Registered>> {
        self.rwsem.write().unwrap_or_else(PoisonError::into_inner)
    }

    /// `tsm_register`.
    pub(super) fn register(&self, provider: Box<dyn Provider>) -> Result<(), Errno> {
        let mut registered = self.down_write();
        if registered.is_some() {
            return Err(Errno::EBUSY);
        }
        if !self.style.registers_beside_entries() && self.entries.load(Ordering::Relaxed) != 0 {
            return Err(Errno::EBUSY);
        }
        *registered = Some(Registered {
            name: provider.name(),
            privlevel_floor: provider.privlevel_floor(),
            attributes: self.style.attributes(|attribute| provider.is_visible(attribute)),
            provider: Mutex::new(provider),
        });
        Ok(())
    }

    /// `tsm_unregister`.
    pub(super) fn unregister(&self) -> Option<Box<dyn Provider>> {
        let registered = self.down_write().take()?;
        Some(registered.provider.into_inner().unwrap_or_else(PoisonError::into_inner))
    }

    /// `tsm_report_make_item`: counts a new entry and gives its attributes.
    pub(super) fn make_item(&self) -> Result<Vec<Attribute>, Errno> {
        let registered = self.down_read();
        let registered = registered.as_ref().ok_or(Errno::ENXIO)?;
        self.entries.fetch_add(1, Ordering::Relaxed);
        Ok(registered.attributes.clone())
    }

    /// `tsm_report_drop_item`: an entry is no more.
    pub(super) fn drop_item(&self) {
        self.entries.fetch_sub(1, Ordering::Relaxed);
    }

    /// Whether taking the lock for reading would wait now.
    pub(super) fn would_wait_to_read(&self) -> bool {
        matches!(self.rwsem.try_read(), Err(TryLockError::WouldBlock))
    }

    /// Whether taking the lock for writing would wait now.
    pub(super) fn would_wait_to_write(&self) -> bool {
        matches!(self.rwsem.try_write(), Err(TryLockError::WouldBlock))
    }

    /// Whether reading a blob would wait for the lock now, or make a report.
    pub(super) fn would_wait_for_blob(&self, report: &Mutex<Report>) -> bool {
        let registered = match self.rwsem.try_read() {
            Ok(registered) => registered,
            Err(TryLockError::Poisoned(poisoned)) => poisoned.into_inner(),
            Err(TryLockError::WouldBlock) => return true,
        };
        let report = lock(report);
        registered.is_some() && !report.desc.inblob.is_empty() && report.fresh().is_none()
    }

    /// The `show` methods of the text attributes; EIO for an attribute without one, which cannot be opened for reading.
    pub(super) fn show(&self, report: &Mutex<Report>, attribute: Attribute) -> Result<Vec<u8>, Errno> {
        let registered = self.down_read();
        let text = match attribute {
            Attribute::Generation => format!("{}\n", lock(report).write_generation),
            Attribute::Provider => format!("{}\n", registered.as_ref().ok_or(Errno::ENXIO)?.name),
            Attribute::PrivlevelFloor => {
                format!("{}\n", registered.as_ref().ok_or(Errno::ENXIO)?.privlevel_floor)
            }
            _ => return Err(Errno::EIO),
        };
        Ok(text.into_bytes())
    }

    /// The `store` methods of the text attributes and the `write` method of `inblob`.
    ///
    /// `bytes` is what was written: for text attributes 1 to 4095 bytes (what follows a zero does not count), for `inblob`
    /// 0 to 64 bytes. EIO for an attribute without such a method, which cannot be opened for writing.
    pub(super) fn store(
        &self,
        report: &Mutex<Report>,
        attribute: Attribute,
        bytes: &[u8],
    ) -> Result<(), Errno> {
        match attribute {
            Attribute::Privlevel => {
                let value = kstrtouint(bytes)?;
                let registered = self.down_write();
                let floor = registered.as_ref().ok_or(Errno::ENXIO)?.privlevel_floor;
                if !(floor..=PRIVLEVEL_MAX).contains(&value) {
                    return Err(Errno::EINVAL);
                }
                let mut report = lock(report);
                report.advance()?;
                report.desc.privlevel = value;
            }
            Attribute::ServiceProvider => {
                let _guard = self.down_write();
                let mut report = lock(report);
                report.advance()?;
                report.desc.service_provider =
                    Some(c_string(bytes.strip_suffix(b"\n").unwrap_or(bytes)).to_vec());
            }
            Attribute::ServiceGuid => {
                let _guard = self.down_write();
                let mut report = lock(report);
                report.advance()?;
                // The generation has moved and the null GUID stands, even when the text is wrong.
                report.desc.service_guid = [0; 16];
                report.desc.service_guid = guid_parse(bytes)?;
            }
            Attribute::ServiceManifestVersion => {
                let value = kstrtouint(bytes)?;
                let _guard = self.down_write();
                let mut report = lock(report);
                report.advance()?;
                report.desc.service_manifest_version = value;
            }
            Attribute::Inblob => {
                let _guard = self.down_write();
                let mut report = lock(report);
                report.advance()?;
                report.desc.inblob = bytes.to_vec();
            }
            _ => return Err(Errno::EIO),
        }
        Ok(())
    }

    /// `tsm_report_read`: hands the blob to `use_blob`, making a report first if the present one is stale.
    pub(super) fn read_blob<T>(
        &self,
        report: &Mutex<Report>,
        attribute: Attribute,
        use_blob: impl FnOnce(&[u8]) -> T,
    ) -> Result<T, Errno> {
        {
            // `read_cached_report`. That there is no inblob is said before it is asked whether there is a provider.
            let _guard = self.down_read();
            let report = lock(report);
            if report.desc.inblob.is_empty() {
                return Err(Errno::EINVAL);
            }
            if let Some(blobs) = report.fresh() {
                return Ok(use_blob(select(blobs, attribute)));
            }
        }
        let mut registered = self.down_write();
        let gone = if self.style == KernelStyle::V6_7 { Errno::ENOTTY } else { Errno::ENXIO };
        let registered = registered.as_mut().ok_or(gone)?;
        let mut report = lock(report);
        if report.desc.inblob.is_empty() {
            return Err(Errno::EINVAL);
        }
        // Another thread may have made it in between.
        if report.fresh().is_none() {
            report.blobs = None;
            let provider = registered.provider.get_mut().unwrap_or_else(PoisonError::into_inner);
            let blobs = provider.report_new(&report.desc)?;
            let optional = |blob: &Option<Vec<u8>>| blob.as_ref().map_or(0, Vec::len);
            let bytes = [&blobs.outblob, &blobs.auxblob, &blobs.manifestblob].into_iter().map(optional).sum();
            report.blobs = Some(Held { _charge: self.budget.charge(bytes)?, blobs });
            report.read_generation = report.write_generation;
        }
        report.blobs.as_ref().map(|held| use_blob(select(&held.blobs, attribute))).ok_or(Errno::EIO)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The wrap of the generations takes 2^64 writes; here they are set.
    #[test]
    fn a_write_that_would_meet_the_read_generation_is_refused() {
        let core = Core::new(KernelStyle::V6_12, Arc::default());
        let report = Mutex::new(Report { read_generation: 5, write_generation: 3, ..Report::default() });
        assert_eq!(core.store(&report, Attribute::Inblob, &[1]), Ok(()));
        for attribute in [Attribute::Inblob, Attribute::ServiceProvider, Attribute::ServiceGuid] {
            assert_eq!(core.store(&report, attribute, b"1"), Err(Errno::EBUSY));
        }
        assert_eq!(core.store(&report, Attribute::ServiceManifestVersion, b"1"), Err(Errno::EBUSY));
        assert_eq!(core.show(&report, Attribute::Generation), Ok(b"4\n".to_vec()));
        assert_eq!(lock(&report).desc, ReportRequest { inblob: vec![1], ..ReportRequest::default() });
    }

    #[test]
    fn the_write_generation_itself_wraps() {
        let core = Core::new(KernelStyle::V6_12, Arc::default());
        let report =
            Mutex::new(Report { read_generation: 7, write_generation: u64::MAX, ..Report::default() });
        assert_eq!(core.show(&report, Attribute::Generation), Ok(b"18446744073709551615\n".to_vec()));
        assert_eq!(core.store(&report, Attribute::Inblob, &[1]), Ok(()));
        assert_eq!(core.show(&report, Attribute::Generation), Ok(b"0\n".to_vec()));
    }

    #[test]
    fn attributes_without_the_method_have_none() {
        let core = Core::new(KernelStyle::V6_12, Arc::default());
        let report = Mutex::default();
        assert_eq!(core.store(&report, Attribute::Outblob, b"1"), Err(Errno::EIO));
        assert_eq!(core.show(&report, Attribute::Inblob), Err(Errno::EIO));
    }
}
