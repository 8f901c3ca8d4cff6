//! `cove_guest`: the provider of this project's Linux module for TVMs, `guest-tests/linux-cove-module/`. Linux has none.
//!
//! The module probes for COVG, asks for the capabilities once, makes a key pair, and registers. A report is one `get_evidence`:
//! key and challenge in a page each, and an output buffer that grows while the TSM says that a parameter is invalid, which is
//! all that it says of a buffer that is too small.

use std::{
    sync::{Arc, Mutex},
    time::Duration,
};

use nix::errno::Errno;
use p256::{SecretKey, elliptic_curve::sec1::ToSec1Point as _};
use tsmsim_abi::cove::{
    PAGE_SIZE,
    attcaps::{
        AttestationCapabilities, HashAlgorithm, MAX_INITIAL_MEASUREMENT_REGISTERS,
        MAX_RUNTIME_MEASUREMENT_REGISTERS, MeasurementType,
    },
    covg::{ATTESTATION_CERTIFICATE_CBOR, ATTESTATION_CERTIFICATE_X509, CHALLENGE_SIZE, CovgFid},
    sbi::SbiError,
};
use tsmsim_simulator::cove::{
    guest::{IMAGE_GPA, InProcessTvmGuest},
    machine::Action,
    regions::RegionKind,
    registers::Registers,
};
use zerocopy::{FromZeros, IntoBytes};

use super::{
    lock,
    time::{Sleeper, SleeperClock},
};
use crate::{
    configfs::KernelStyle,
    provider::{Attribute, Blobs, Provider, ReportRequest},
};

/// `COVE_EVIDENCE_FIRST`: the output buffer of the first call, in bytes.
const EVIDENCE_FIRST: usize = 4 * PAGE_SIZE;
/// `COVE_EVIDENCE_MAX`: the largest output buffer, in bytes. It is what a report holds, which is less than 16 pages.
const EVIDENCE_MAX: usize = KernelStyle::V6_12.outblob_max();
/// Pages of the driver's buffers: output, key, challenge or capabilities.
const BUFFER_PAGES: usize = EVIDENCE_MAX / PAGE_SIZE + 2;
/// `COVE_BUSY_RETRIES`: how often a busy TSM is asked again.
const BUSY_RETRIES: u32 = 50;
/// `COVE_BUSY_DELAY_MS`.
const BUSY_DELAY: Duration = Duration::from_millis(20);

const PAGE: u64 = PAGE_SIZE as u64;

/// The module's parameter `format`.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum CoveFormat {
    /// `cbor`.
    Cbor,
    /// `x509`.
    X509,
}

impl CoveFormat {
    /// `cert_format`.
    #[must_use]
    pub const fn flag(self) -> u64 {
        match self {
            Self::Cbor => ATTESTATION_CERTIFICATE_CBOR,
            Self::X509 => ATTESTATION_CERTIFICATE_X509,
        }
    }
}

/// The TVM with what the driver keeps of it.
struct Tvm {
    guest: InProcessTvmGuest,
    /// Guest-physical address of the buffers.
    buffers: u64,
}

/// The driver. Clones are handles of the same. Evidence is made by one at a time; while a busy TSM is waited for, the TVM is
/// not locked.
#[derive(Clone)]
pub struct CoveGuest {
    tvm: Arc<Mutex<Tvm>>,
    evidence_lock: Arc<Mutex<()>>,
    sleeper: Arc<dyn Sleeper>,
    format: CoveFormat,
    public_key: Arc<[u8]>,
}

impl CoveGuest {
    /// `cove_guest_init`. Without a format it is CBOR if the TSM has it, else X.509. The TVM's clock is that of `sleeper` from
    /// now on. The last pages of its first memory become the buffers: no page of the launch may lie there.
    ///
    /// # Errors
    /// | | |
    /// |---|---|
    /// | ENODEV | no COVG |
    /// | ENOMEM | no room for the buffers behind the image |
    /// | EPROTO | the capabilities are not valid |
    /// | EOPNOTSUPP | the TSM does not give that format |
    /// | EINVAL | the entropy is no private key |
    /// | others | what `get_attcaps` failed with |
    pub fn new(
        mut guest: InProcessTvmGuest,
        sleeper: Arc<dyn Sleeper>,
        format: Option<CoveFormat>,
    ) -> Result<Self, Errno> {
        guest.world().clock = Box::new(SleeperClock(Arc::clone(&sleeper)));
        if !guest.probe() {
            return Err(Errno::ENODEV);
        }
        let buffers = place(&guest).ok_or(Errno::ENOMEM)?;
        let mut tvm = Tvm { guest, buffers };
        let format = choose_format(&tvm.attcaps()?, format)?;
        let public_key = tvm.make_key()?.into();
        Ok(Self {
            tvm: Arc::new(Mutex::new(tvm)),
            evidence_lock: Arc::new(Mutex::new(())),
            sleeper,
            format,
            public_key,
        })
    }

    /// The TVM below, for its journal and for faults.
    pub fn with_guest<R>(&self, look: impl FnOnce(&mut InProcessTvmGuest) -> R) -> R {
        look(&mut lock(&self.tvm).guest)
    }

    /// The COSE_Key that evidence certifies. Nobody has the private key: callers bind a key of theirs by `inblob`.
    #[must_use]
    pub fn public_key(&self) -> &[u8] {
        &self.public_key
    }

    /// `cove_ask`: a call, again while the TSM is busy.
    fn ask(&self, size: usize) -> Result<Vec<u8>, Errno> {
        let mut retries = 0;
        loop {
            let mut tvm = lock(&self.tvm);
            let arguments = [
                tvm.key_gpa(),
                self.public_key.len() as u64,
                tvm.challenge_gpa(),
                self.format.flag(),
                tvm.buffers,
                size as u64,
            ];
            match tvm.covg(CovgFid::GET_EVIDENCE, &arguments) {
                Err(SbiError::BUSY) if retries < BUSY_RETRIES => retries += 1,
                Err(error) => return Err(errno(error)),
                Ok(len) => {
                    let len = usize::try_from(len).ok().filter(|len| (1..=size).contains(len));
                    let mut evidence = vec![0; len.ok_or(Errno::EPROTO)?];
                    let gpa = tvm.buffers;
                    tvm.read(gpa, &mut evidence)?;
                    return Ok(evidence);
                }
            }
            drop(tvm);
            self.sleeper.sleep(BUSY_DELAY).map_err(|_| Errno::EINTR)?;
        }
    }

    /// `cove_report_new`.
    fn evidence(&self, inblob: &[u8]) -> Result<Vec<u8>, Errno> {
        let challenge: &[u8; CHALLENGE_SIZE] = inblob.try_into().map_err(|_| Errno::EINVAL)?;
        let _evidence = lock(&self.evidence_lock);
        lock(&self.tvm).put_challenge(challenge)?;
        let mut size = EVIDENCE_FIRST;
        loop {
            lock(&self.tvm).clear(size)?;
            match self.ask(size) {
                Err(Errno::EINVAL) if size < EVIDENCE_MAX => size = EVIDENCE_MAX.min(2 * size),
                Err(errno) => {
                    if errno != Errno::EINTR {
                        tracing::warn!(%errno, "cove_guest: the TSM gave no evidence");
                    }
                    return Err(errno);
                }
                Ok(evidence) => return Ok(evidence),
            }
        }
    }
}

/// Where the buffers lie: at the end of the memory that begins at zero.
fn place(guest: &InProcessTvmGuest) -> Option<u64> {
    let mut regions = guest.machine().tvm().regions().iter();
    let (ram, _) = regions.find(|(ram, kind)| ram.start == 0 && *kind == RegionKind::Confidential)?;
    ram.end.checked_sub(BUFFER_PAGES as u64 * PAGE).filter(|buffers| *buffers >= IMAGE_GPA)
}

/// `cove_attcaps_valid`.
fn is_valid(capabilities: &AttestationCapabilities) -> bool {
    let hash = capabilities.hash_algorithm.get();
    let formats = u64::from(capabilities.certificate_formats.get());
    let initial = usize::from(capabilities.initial_measurements);
    let runtime = usize::from(capabilities.runtime_measurements);
    let registers = capabilities.msmt_regs.iter().take(initial + runtime);
    let of_type = |index| if index < initial { MeasurementType::INITIAL } else { MeasurementType::RUNTIME };
    HashAlgorithm(hash).digest_size().is_some()
        && formats & (ATTESTATION_CERTIFICATE_CBOR | ATTESTATION_CERTIFICATE_X509) != 0
        && (1..=MAX_INITIAL_MEASUREMENT_REGISTERS).contains(&initial)
        && runtime <= MAX_RUNTIME_MEASUREMENT_REGISTERS
        && registers.enumerate().all(|(index, register)| {
            register.hash_algorithm.get() == hash && register.measurement_type.get() == of_type(index).0
        })
}

/// `cove_choose_format`.
fn choose_format(
    capabilities: &AttestationCapabilities,
    wanted: Option<CoveFormat>,
) -> Result<CoveFormat, Errno> {
    let has = |format: CoveFormat| u64::from(capabilities.certificate_formats.get()) & format.flag() != 0;
    match wanted {
        None if has(CoveFormat::Cbor) => Ok(CoveFormat::Cbor),
        None => Ok(CoveFormat::X509),
        Some(format) if has(format) => Ok(format),
        Some(_) => Err(Errno::EOPNOTSUPP),
    }
}

/// `covg_errno`: `sbi_err_map_linux_errno` of Linux where that gives an error that programs know.
const fn errno(error: SbiError) -> Errno {
    match error {
        SbiError::BUSY => Errno::EBUSY,
        SbiError::NOT_SUPPORTED => Errno::EOPNOTSUPP,
        SbiError::DENIED => Errno::EPERM,
        SbiError::INVALID_PARAM => Errno::EINVAL,
        SbiError::INVALID_ADDRESS => Errno::EFAULT,
        _ => Errno::EIO,
    }
}

impl Tvm {
    const fn key_gpa(&self) -> u64 {
        self.buffers + EVIDENCE_MAX as u64
    }

    /// Also the place of the capabilities.
    const fn challenge_gpa(&self) -> u64 {
        self.key_gpa() + PAGE
    }

    /// `sbi_ecall`.
    fn covg(&mut self, function: CovgFid, arguments: &[u64]) -> Result<u64, SbiError> {
        let mut registers = Registers::covg(function, arguments);
        match (self.guest.ecall(&mut registers), registers.error()) {
            (Action::Forward, _) => Err(SbiError::NOT_SUPPORTED),
            (Action::Resume, SbiError::SUCCESS) => Ok(registers.value()),
            (Action::Resume, error) => Err(error),
        }
    }

    fn read(&mut self, gpa: u64, buf: &mut [u8]) -> Result<(), Errno> {
        self.guest.world().memory.read(gpa, buf).map_err(|_| Errno::ENOMEM)
    }

    fn write(&mut self, gpa: u64, data: &[u8]) -> Result<(), Errno> {
        self.guest.world().memory.write(gpa, data).map_err(|_| Errno::ENOMEM)
    }

    /// `cove_get_formats`: the capabilities, which have to be valid. The size has to be whole pages.
    fn attcaps(&mut self) -> Result<AttestationCapabilities, Errno> {
        let gpa = self.challenge_gpa();
        self.covg(CovgFid::GET_ATTCAPS, &[gpa, PAGE]).map_err(errno)?;
        let mut capabilities = AttestationCapabilities::new_zeroed();
        self.read(gpa, capabilities.as_mut_bytes())?;
        if is_valid(&capabilities) { Ok(capabilities) } else { Err(Errno::EPROTO) }
    }

    /// `cove_make_key`: a key pair on P-256, of which the public half is kept, in a page of its own.
    fn make_key(&mut self) -> Result<Vec<u8>, Errno> {
        let mut scalar = [0; 32];
        self.guest.world().entropy.fill(&mut scalar);
        let secret = SecretKey::from_slice(&scalar).map_err(|_| Errno::EINVAL)?;
        let public_key = cose_key(&secret);
        self.write(self.key_gpa(), &public_key)?;
        Ok(public_key)
    }

    fn put_challenge(&mut self, challenge: &[u8; CHALLENGE_SIZE]) -> Result<(), Errno> {
        self.write(self.challenge_gpa(), challenge)
    }

    /// A new output buffer holds zeros.
    fn clear(&mut self, size: usize) -> Result<(), Errno> {
        self.write(self.buffers, &vec![0; size])
    }
}

/// `struct cose_key_p256`: {1: 2, -1: 1, -2: x, -3: y}.
fn cose_key(secret: &SecretKey) -> Vec<u8> {
    let point = secret.public_key().to_sec1_point(false);
    let (x, y) = point.as_bytes().get(1..).unwrap_or_default().split_at(32);
    [&[0xa4, 0x01, 0x02, 0x20, 0x01, 0x21, 0x58, 0x20], x, &[0x22, 0x58, 0x20], y].concat()
}

impl Provider for CoveGuest {
    fn name(&self) -> &'static str {
        "cove_guest"
    }

    /// `cove_report_attr_visible`, `cove_report_bin_attr_visible`.
    fn is_visible(&self, attribute: Attribute) -> bool {
        matches!(
            attribute,
            Attribute::Generation | Attribute::Provider | Attribute::Inblob | Attribute::Outblob
        )
    }

    /// # Errors
    /// | | |
    /// |---|---|
    /// | EINVAL | not 64 bytes; or the TSM says so with the largest buffer |
    /// | EBUSY | the TSM was busy for a second |
    /// | EINTR | the session ended meanwhile |
    /// | EPROTO | the TSM says that it wrote nothing, or more than there is room for |
    /// | EPERM, EFAULT, EOPNOTSUPP, EIO | what the TSM's error means |
    fn report_new(&mut self, request: &ReportRequest) -> Result<Blobs, Errno> {
        let outblob = self.evidence(&request.inblob)?;
        Ok(Blobs { outblob: Some(outblob), ..Blobs::default() })
    }
}
