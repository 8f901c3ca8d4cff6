//! The provider for TVMs: evidence of either format, every error number, the buffer that grows.

use std::{
    sync::{Arc, Mutex},
    time::Duration,
};

use nix::errno::Errno;
use rstest::rstest;
use tsmsim_abi::cove::{
    attcaps::AttestationCapabilities,
    covg::{CertificateFormats, CovgFid},
    sbi::SbiError,
};
use tsmsim_evidence::{
    Timestamp, TrustedRoot,
    cove::{Bundle, Claims, Policy, verify},
    x509::KnownKey,
};
use tsmsim_keys::cove::KeyAlgorithm;
use tsmsim_simulator::{
    cove::{
        event::CoveEvent,
        guest::{IMAGE_GPA, InProcessTvmGuest},
        platform::CovePlatformConfig,
    },
    env::Entropy,
    fault::{FaultAction, FaultHook, FaultPoint, NoFaults},
    journal::Event,
    snp::guest::World,
};
use tsmsim_userland::{
    drivers::{
        cove_guest::{CoveFormat, CoveGuest},
        time::{Sleeper as _, SystemSleeper, VirtualSleeper},
    },
    provider::{Attribute, Blobs, Provider as _, ReportRequest},
};

use crate::support::{DATA, RAM, Spy, Times, cove_platform, tvm_guest_in, world};

/// Within the validity of the default seed's certificates.
const MOMENT: Timestamp = Timestamp(1_750_000_000);

const ANY: Option<CoveFormat> = None;
const CBOR: Option<CoveFormat> = Some(CoveFormat::Cbor);
const X509: Option<CoveFormat> = Some(CoveFormat::X509);

fn new(guest: InProcessTvmGuest, format: Option<CoveFormat>) -> Result<CoveGuest, Errno> {
    CoveGuest::new(guest, Arc::new(VirtualSleeper::new()), format)
}

fn driver_in(world: World, format: Option<CoveFormat>) -> CoveGuest {
    new(tvm_guest_in(world, &CovePlatformConfig::new(), RAM), format).unwrap()
}

fn driver(format: Option<CoveFormat>) -> CoveGuest {
    driver_in(world(), format)
}

fn request(inblob: &[u8]) -> ReportRequest {
    ReportRequest { inblob: inblob.to_vec(), ..ReportRequest::default() }
}

fn evidence(driver: &CoveGuest) -> Result<Vec<u8>, Errno> {
    driver.clone().report_new(&request(&DATA)).map(|Blobs { outblob, auxblob, manifestblob }| {
        assert_eq!((auxblob, manifestblob), (None, None));
        outblob.unwrap()
    })
}

/// Whether the bytes are evidence of the caller's data for the driver's key.
fn is_evidence(driver: &CoveGuest, bytes: &[u8]) -> bool {
    Claims::read(bytes)
        .is_ok_and(|claims| claims.tvm.challenge == DATA && claims.tvm.public_key == key(driver))
}

/// The driver's key as a judge sees it.
fn key(driver: &CoveGuest) -> KnownKey {
    let mut point = [4; 65];
    point[1..33].copy_from_slice(&driver.public_key()[8..40]);
    point[33..].copy_from_slice(&driver.public_key()[43..]);
    KnownKey::P256(point)
}

fn fault(driver: &CoveGuest, point: FaultPoint, action: FaultAction, times: u32) {
    driver.with_guest(|guest| guest.world().faults = Box::new(Times(point, action, times)));
}

/// The COVG calls that ended since the launch, with their errors.
fn calls(driver: &CoveGuest) -> Vec<(CovgFid, SbiError)> {
    let call = |event: &Event| match event {
        Event::Cove(CoveEvent::Covg { fid, error, .. }) => Some((*fid, *error)),
        _ => None,
    };
    driver.with_guest(|guest| guest.world().journal.entries().filter_map(|(_, event)| call(event)).collect())
}

#[rstest]
#[case(ANY, KeyAlgorithm::Ed25519)]
#[case(CBOR, KeyAlgorithm::Ed25519)]
#[case(X509, KeyAlgorithm::P256)]
fn evidence_comes_by_configfs(#[case] format: Option<CoveFormat>, #[case] algorithm: KeyAlgorithm) {
    let driver = driver(format);
    let bytes = evidence(&driver).unwrap();
    assert!(is_evidence(&driver, &bytes));
    assert_eq!(bytes[0] == 0x30, format == X509);
    let platform = cove_platform(&CovePlatformConfig::new());
    let root = platform.hierarchy().root().unwrap().der().to_vec();
    let chain = platform.chain(algorithm).pem().into_bytes();
    let policy = Policy { trust: TrustedRoot::Given(root.clone()), ..Policy::at(MOMENT) };
    let mut bundle = Bundle {
        evidence: bytes,
        root: Some(root),
        chain: Some(chain),
        inblob: Some(DATA.to_vec()),
        ..Bundle::default()
    };
    let verdict = verify(&bundle, &policy);
    assert!(verdict.accepted(), "{}", verdict.table());
    bundle.inblob = Some(vec![0x43; 64]);
    assert!(!verify(&bundle, &policy).accepted());
}

#[test]
fn the_provider_has_few_attributes() {
    let driver = driver(ANY);
    assert_eq!((driver.name(), driver.privlevel_floor()), ("cove_guest", 0));
    let shown = [Attribute::Generation, Attribute::Provider, Attribute::Inblob, Attribute::Outblob];
    assert!(shown.into_iter().all(|attribute| driver.is_visible(attribute)));
    let hidden = [
        Attribute::Privlevel,
        Attribute::PrivlevelFloor,
        Attribute::ServiceProvider,
        Attribute::Auxblob,
        Attribute::Manifestblob,
    ];
    assert!(hidden.into_iter().all(|attribute| !driver.is_visible(attribute)));
}

/// The TSM is not asked.
#[rstest]
#[case(0)]
#[case(1)]
#[case(63)]
#[case(65)]
fn challenges_have_64_bytes(#[case] len: usize) {
    let mut driver = driver(ANY);
    let before = calls(&driver);
    assert_eq!(driver.report_new(&request(&vec![0; len])), Err(Errno::EINVAL));
    assert_eq!(calls(&driver), before);
    assert!(is_evidence(&driver, &evidence(&driver).unwrap()));
}

#[test]
fn capabilities_are_asked_for_once() {
    let driver = driver(ANY);
    for _ in 0..3 {
        evidence(&driver).unwrap();
    }
    let functions: Vec<_> = calls(&driver).into_iter().map(|(fid, _)| fid).collect();
    let get = CovgFid::GET_EVIDENCE;
    assert_eq!(functions, [CovgFid::GET_ATTCAPS, get, get, get]);
}

#[test]
fn the_key_is_made_once_and_from_entropy() {
    let one = driver(CBOR);
    let keys: Vec<_> =
        (0..2).map(|_| Claims::read(&evidence(&one).unwrap()).unwrap().tvm.public_key).collect();
    assert_eq!(keys, [key(&one), key(&one)]);
    assert_eq!(driver(X509).public_key(), one.public_key(), "the same entropy");
    let mut other = world();
    other.entropy.fill(&mut [0; 1]);
    assert_ne!(driver_in(other, CBOR).public_key(), one.public_key());
}

/// Entropy of one byte, over and over.
struct Same(u8);

impl Entropy for Same {
    fn fill(&mut self, buf: &mut [u8]) {
        buf.fill(self.0);
    }
}

#[rstest]
#[case::zero(0, Some(Errno::EINVAL))]
#[case(0x5a, None)]
#[case::beyond_the_order(0xff, Some(Errno::EINVAL))]
fn entropy_that_is_no_key(#[case] byte: u8, #[case] error: Option<Errno>) {
    let world = World { entropy: Box::new(Same(byte)), ..world() };
    let guest = tvm_guest_in(world, &CovePlatformConfig::new(), RAM);
    assert_eq!(new(guest, ANY).err(), error);
}

#[rstest]
#[case(CBOR, true, false, Ok(0xd2))]
#[case(CBOR, false, true, Err(Errno::EOPNOTSUPP))]
#[case(X509, true, false, Err(Errno::EOPNOTSUPP))]
#[case(X509, false, true, Ok(0x30))]
#[case(ANY, true, false, Ok(0xd2))]
#[case(ANY, false, true, Ok(0x30))]
fn formats_that_the_tsm_has(
    #[case] format: Option<CoveFormat>,
    #[case] cbor: bool,
    #[case] x509: bool,
    #[case] first: Result<u8, Errno>,
) {
    let formats = CertificateFormats::new().with_cbor(cbor).with_x509(x509);
    let config = CovePlatformConfig { formats, ..CovePlatformConfig::new() };
    let driver = new(tvm_guest_in(world(), &config, RAM), format);
    assert_eq!(driver.map(|driver| evidence(&driver).unwrap()[0]), first);
}

/// Capabilities that say what cannot be: at an offset another byte.
#[rstest]
#[case::as_they_are(0, 1, false)]
#[case::hash(8, 4, true)]
#[case::no_format(12, 0, true)]
#[case::other_format_too(12, 7, false)]
#[case::no_initial(16, 0, true)]
#[case::initial(16, 9, true)]
#[case::more_initial(16, 7, true)]
#[case::runtime(17, 19, true)]
#[case::fewer_runtime(17, 17, false)]
#[case::no_runtime(17, 0, false)]
#[case::register_hash(20, 1, true)]
#[case::initial_type(24, 1, true)]
#[case::runtime_type(24 + 6 * 12, 0, true)]
#[case::pcr(28, 77, false)]
fn capabilities_that_cannot_be(#[case] offset: usize, #[case] byte: u8, #[case] refused: bool) {
    let world = Spy::world(move |_, data| {
        if data.len() == size_of::<AttestationCapabilities>() {
            data[offset] = byte;
        }
    });
    let guest = tvm_guest_in(world, &CovePlatformConfig::new(), RAM);
    assert_eq!(new(guest, ANY).err(), refused.then_some(Errno::EPROTO));
}

#[rstest]
#[case::enough(IMAGE_GPA + 0xa000, None)]
#[case::over_the_image(IMAGE_GPA + 0x9000, Some(Errno::ENOMEM))]
#[case::small(0x1000, Some(Errno::ENOMEM))]
fn room_for_the_buffers(#[case] ram: u64, #[case] error: Option<Errno>) {
    let guest = tvm_guest_in(world(), &CovePlatformConfig::new(), usize::try_from(ram).unwrap());
    assert_eq!(new(guest, ANY).err(), error);
}

/// `sbi_err_map_linux_errno` where it knows the error.
const ERRORS: [(SbiError, Errno); 8] = [
    (SbiError::DENIED, Errno::EPERM),
    (SbiError::INVALID_PARAM, Errno::EINVAL),
    (SbiError::INVALID_ADDRESS, Errno::EFAULT),
    (SbiError::NOT_SUPPORTED, Errno::EOPNOTSUPP),
    (SbiError::BUSY, Errno::EBUSY),
    (SbiError::FAILED, Errno::EIO),
    (SbiError::AUTH, Errno::EIO),
    (SbiError(77), Errno::EIO),
];

#[test]
fn errors_of_get_evidence() {
    for (error, errno) in ERRORS {
        let driver = driver(CBOR);
        let status = FaultAction::Status(error.to_register());
        fault(&driver, FaultPoint::COVE_ECALL, status.clone(), u32::MAX);
        assert_eq!(evidence(&driver), Err(errno), "{error}");
        fault(&driver, FaultPoint::COVE_EVIDENCE, status, u32::MAX);
        assert_eq!(evidence(&driver), Err(errno), "{error}");
        driver.with_guest(|guest| guest.world().faults = Box::new(NoFaults));
        assert!(is_evidence(&driver, &evidence(&driver).unwrap()), "the next call is none the worse");
    }
}

#[test]
fn errors_of_get_attcaps() {
    for (error, errno) in ERRORS {
        let status = FaultAction::Status(error.to_register());
        let mut guest = tvm_guest_in(world(), &CovePlatformConfig::new(), RAM);
        guest.world().faults = Box::new(Times(FaultPoint::COVE_ECALL, status, 1));
        assert_eq!(new(guest, ANY).err(), Some(errno), "{error}");
    }
}

/// Asked again each 20 ms, for a second.
#[rstest]
#[case(0, Ok(true), 0)]
#[case(1, Ok(true), 20)]
#[case(50, Ok(true), 1000)]
#[case(51, Err(Errno::EBUSY), 1000)]
fn a_busy_tsm(#[case] times: u32, #[case] ended: Result<bool, Errno>, #[case] passed_ms: u64) {
    let sleeper = Arc::new(VirtualSleeper::new());
    let guest = tvm_guest_in(world(), &CovePlatformConfig::new(), RAM);
    let driver = CoveGuest::new(guest, sleeper.clone(), ANY).unwrap();
    let busy = FaultAction::Status(SbiError::BUSY.to_register());
    fault(&driver, FaultPoint::COVE_ECALL, busy, times);
    assert_eq!(evidence(&driver).map(|bytes| is_evidence(&driver, &bytes)), ended);
    assert_eq!(sleeper.now(), Duration::from_millis(passed_ms));
    assert!(is_evidence(&driver, &evidence(&driver).unwrap()));
}

#[test]
fn a_session_that_ends_does_not_wait() {
    let sleeper = Arc::new(SystemSleeper::new());
    let guest = tvm_guest_in(world(), &CovePlatformConfig::new(), RAM);
    let driver = CoveGuest::new(guest, sleeper.clone(), ANY).unwrap();
    sleeper.shutdown();
    assert!(is_evidence(&driver, &evidence(&driver).unwrap()), "nothing is waited for");
    let busy = FaultAction::Status(SbiError::BUSY.to_register());
    fault(&driver, FaultPoint::COVE_ECALL, busy, 1);
    assert_eq!(evidence(&driver), Err(Errno::EINTR));
}

/// A TSM that says how long its evidence is, and wants so much room.
struct Wants(u32);

impl FaultHook for Wants {
    fn consult(&mut self, point: FaultPoint) -> Option<FaultAction> {
        let refuses = point == FaultPoint::COVE_ECALL && self.0 > 0;
        self.0 -= u32::from(refuses);
        refuses.then(|| FaultAction::Status(SbiError::INVALID_PARAM.to_register()))
    }
}

/// 16 KiB, then 32 KiB, which is all that a report holds.
#[rstest]
#[case(0, Ok(()), 1)]
#[case(1, Ok(()), 2)]
#[case(2, Err(Errno::EINVAL), 2)]
fn the_buffer_grows(#[case] refusals: u32, #[case] ended: Result<(), Errno>, #[case] asked: usize) {
    let driver = driver(CBOR);
    let before = calls(&driver).len();
    driver.with_guest(|guest| guest.world().faults = Box::new(Wants(refusals)));
    assert_eq!(evidence(&driver).map(drop), ended);
    assert_eq!(calls(&driver).len() - before, asked);
}

/// A TSM that says that it wrote, and did not: the buffer's zeros, not what another call left.
#[test]
fn an_answer_that_is_dropped() {
    let driver = driver(CBOR);
    let len = evidence(&driver).unwrap().len();
    fault(&driver, FaultPoint::COVE_EVIDENCE, FaultAction::Drop, 1);
    assert_eq!(evidence(&driver), Ok(vec![0; len]));
}

/// A TSM that says that all went well, and did nothing.
#[test]
fn success_without_an_answer() {
    let driver = driver(CBOR);
    for point in [FaultPoint::COVE_ECALL, FaultPoint::COVE_EVIDENCE] {
        fault(&driver, point, FaultAction::Status(0), 1);
        assert_eq!(evidence(&driver), Err(Errno::EPROTO));
        assert!(is_evidence(&driver, &evidence(&driver).unwrap()));
    }
    let mut guest = tvm_guest_in(world(), &CovePlatformConfig::new(), RAM);
    guest.world().faults = Box::new(Times(FaultPoint::COVE_ECALL, FaultAction::Status(0), 1));
    assert_eq!(new(guest, ANY).err(), Some(Errno::EPROTO));
}

/// Key, challenge and output have pages of their own at the end of memory; the output is zeros before the TSM writes.
#[test]
fn buffers_are_pages_of_their_own() {
    let written: Arc<Mutex<Vec<(u64, usize)>>> = Arc::default();
    let watched = Arc::clone(&written);
    let world = Spy::world(move |gpa, data| watched.lock().unwrap().push((gpa, data.len())));
    let driver = driver_in(world, X509);
    assert!(
        written.lock().unwrap().contains(&(RAM as u64 - 2 * 4096, 75)),
        "the key has its page from the start"
    );
    written.lock().unwrap().clear();
    let length = evidence(&driver).unwrap().len();
    let base = RAM as u64 - 10 * 4096;
    let expected = [(base + 9 * 4096, 64), (base, 4 * 4096), (base, length)];
    let written: Vec<_> =
        written.lock().unwrap().iter().copied().filter(|write| expected.contains(write)).collect();
    assert_eq!(written, expected);
}

#[test]
fn clones_are_one_device() {
    let driver = driver(CBOR);
    let threads: Vec<_> = (0..8_u8)
        .map(|number| {
            let mut driver = driver.clone();
            std::thread::spawn(move || {
                let blob = driver.report_new(&request(&[number; 64])).unwrap().outblob.unwrap();
                Claims::read(&blob).unwrap().tvm.challenge == [number; 64]
            })
        })
        .collect();
    assert!(threads.into_iter().all(|thread| thread.join().unwrap()));
}
