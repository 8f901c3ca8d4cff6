//! Guests, faults, and the memory of a program that calls.

use std::{
    sync::{Arc, Mutex},
    time::Duration,
};

use nix::errno::Errno;
use tsmsim_abi::snp::{cert_table::CertGuid, policy::GuestPolicy, tcb::ProductLine};
use tsmsim_keys::{Seed, SignatureMode};
use tsmsim_simulator::{
    cove::{
        self,
        guest::InProcessTvmGuest,
        platform::{CovePlatform, CovePlatformConfig},
    },
    env::{GuestMemory, OutOfRange},
    fault::{FaultAction, FaultHook, FaultPoint},
    snp::{
        self,
        firmware::Firmware,
        guest::{InProcessGuest, VecMemory, World},
        host::build_cert_table,
        platform::PlatformConfig,
    },
    tdx::{
        guest::{InProcessTdGuest, default_params},
        machine::LaunchPlan,
        platform::TdxPlatformConfig,
        vmcall,
    },
};
use tsmsim_userland::drivers::{
    UserMemory,
    sev_guest::{SevGuest, SevGuestOptions},
    tdx_guest::{TdxGuest, TdxGuestOptions},
    time::{Sleeper, VirtualSleeper},
};

pub(crate) const RAM: usize = 1 << 20;
pub(crate) const DATA: [u8; 64] = [0x42; 64];

pub(crate) fn world() -> World {
    World::new(RAM, Seed::DEFAULT)
}

/// A certificate table that needs this many pages.
pub(crate) fn certificates(pages: usize) -> Vec<u8> {
    build_cert_table(&[(CertGuid::VCEK, vec![0x30; pages * 4096 - 48])]).unwrap()
}

pub(crate) fn snp_guest_in(world: World, certificates: &[u8]) -> InProcessGuest {
    let platform = PlatformConfig::new(ProductLine::Milan).build(&Seed::DEFAULT).unwrap();
    let config = snp::host::HostConfig {
        ram: std::iter::once(0..RAM as u64).collect(),
        certificates: certificates.to_vec(),
        ..snp::host::HostConfig::default()
    };
    let plan = snp::host::LaunchPlan::from(GuestPolicy::DEFAULT);
    InProcessGuest::launch(Firmware::new(platform), config, plan, world).unwrap()
}

/// The driver over a guest whose host has certificates of two pages, and its time.
pub(crate) fn sev_guest(options: SevGuestOptions) -> (SevGuest, Arc<VirtualSleeper>) {
    let sleeper = Arc::new(VirtualSleeper::new());
    let guest = snp_guest_in(world(), &certificates(2));
    (SevGuest::new(guest, sleeper.clone(), options).unwrap(), sleeper)
}

pub(crate) fn td_guest_in(world: World, config: vmcall::HostConfig) -> InProcessTdGuest {
    let platform =
        TdxPlatformConfig { signature_mode: SignatureMode::Deterministic, ..TdxPlatformConfig::tdx_1_5() };
    let platform = platform.build(&Seed::DEFAULT).unwrap();
    let plan = LaunchPlan {
        params: default_params(),
        ram: std::iter::once(0..RAM as u64).collect(),
        vcpus: 1,
        pages: Vec::new(),
    };
    InProcessTdGuest::launch(platform, config, plan, world).unwrap()
}

/// The driver over a TD whose host takes this long for a quote, and its time.
pub(crate) fn tdx_guest(
    options: TdxGuestOptions,
    delay: Option<Duration>,
) -> (TdxGuest, Arc<VirtualSleeper>) {
    let sleeper = Arc::new(VirtualSleeper::new());
    let quote_delay_ns = delay.map(|delay| u64::try_from(delay.as_nanos()).unwrap());
    let config = vmcall::HostConfig { quote_delay_ns, ..vmcall::HostConfig::default() };
    (TdxGuest::new(td_guest_in(world(), config), sleeper.clone(), options).unwrap(), sleeper)
}

pub(crate) fn cove_platform(config: &CovePlatformConfig) -> CovePlatform {
    config.build(&Seed::DEFAULT).unwrap()
}

pub(crate) fn tvm_guest_in(world: World, config: &CovePlatformConfig, ram: usize) -> InProcessTvmGuest {
    let plan = cove::machine::LaunchPlan {
        ram: std::iter::once(0..ram as u64).collect(),
        vcpus: 1,
        pages: Vec::new(),
        entry_sepc: 0,
        entry_arg: 0,
        identity: None,
    };
    let config = cove_platform(config);
    InProcessTvmGuest::launch(config, cove::machine::HostConfig::default(), &plan, world).unwrap()
}

/// An action at a point, each time that it is passed, up to so often.
pub(crate) struct Times(pub(crate) FaultPoint, pub(crate) FaultAction, pub(crate) u32);

impl FaultHook for Times {
    fn consult(&mut self, point: FaultPoint) -> Option<FaultAction> {
        if point != self.0 || self.2 == 0 {
            return None;
        }
        self.2 -= 1;
        Some(self.1.clone())
    }
}

/// An action at a point until a time, and how often.
pub(crate) struct Until {
    pub(crate) point: FaultPoint,
    pub(crate) action: FaultAction,
    pub(crate) end: Duration,
    pub(crate) sleeper: Arc<VirtualSleeper>,
    pub(crate) count: Arc<Mutex<u32>>,
}

impl FaultHook for Until {
    fn consult(&mut self, point: FaultPoint) -> Option<FaultAction> {
        if point != self.point {
            return None;
        }
        *self.count.lock().unwrap() += 1;
        (self.sleeper.now() < self.end).then(|| self.action.clone())
    }
}

/// What [`Spy`] makes of what is written.
type Alter = dyn FnMut(u64, &mut Vec<u8>) + Send;

/// Memory that someone watches who can change what is written.
pub(crate) struct Spy {
    memory: VecMemory,
    alter: Mutex<Box<Alter>>,
}

impl Spy {
    pub(crate) fn world(alter: impl FnMut(u64, &mut Vec<u8>) + Send + 'static) -> World {
        let memory = VecMemory::new(RAM);
        World { memory: Box::new(Self { memory, alter: Mutex::new(Box::new(alter)) }), ..world() }
    }
}

impl GuestMemory for Spy {
    fn read(&self, gpa: u64, buf: &mut [u8]) -> Result<(), OutOfRange> {
        self.memory.read(gpa, buf)
    }

    fn write(&self, gpa: u64, data: &[u8]) -> Result<(), OutOfRange> {
        let mut data = data.to_vec();
        (self.alter.lock().unwrap())(gpa, &mut data);
        self.memory.write(gpa, &data)
    }
}

/// The memory of a program: 64 KiB at 1000h, of which the last 4 KiB can be read only.
pub(crate) struct Program(pub(crate) Vec<u8>);

impl Program {
    pub(crate) const BASE: u64 = 0x1000;
    pub(crate) const READ_ONLY: u64 = 0x1_0000;
    /// Where a call's structures lie.
    pub(crate) const STRUCT: u64 = 0x1000;
    pub(crate) const REQUEST: u64 = 0x1100;
    pub(crate) const RESPONSE: u64 = 0x2000;
    pub(crate) const CERTIFICATES: u64 = 0x4000;

    pub(crate) fn new() -> Self {
        Self(vec![0xcc; 0x1_0000])
    }

    fn range(&self, addr: u64, len: usize) -> Result<std::ops::Range<usize>, Errno> {
        let start = addr.checked_sub(Self::BASE).and_then(|start| usize::try_from(start).ok());
        let end = start.and_then(|start| start.checked_add(len)).filter(|end| *end <= self.0.len());
        start.zip(end).map(|(start, end)| start..end).ok_or(Errno::EFAULT)
    }

    pub(crate) fn bytes(&self, addr: u64, len: usize) -> &[u8] {
        &self.0[self.range(addr, len).unwrap()]
    }
}

impl UserMemory for Program {
    fn read(&self, addr: u64, buf: &mut [u8]) -> Result<(), Errno> {
        buf.copy_from_slice(&self.0[self.range(addr, buf.len())?]);
        Ok(())
    }

    fn write(&mut self, addr: u64, data: &[u8]) -> Result<(), Errno> {
        let range = self.range(addr, data.len())?;
        if addr + data.len() as u64 > Self::READ_ONLY {
            return Err(Errno::EFAULT);
        }
        self.0[range].copy_from_slice(data);
        Ok(())
    }
}
