//! The guest's side, for programs that have no virtual machine.
//!
//! [`InProcessTdGuest`] does over plain memory what Linux's `tdx-guest` driver does in a TD: reports by TDCALL, shares a
//! buffer by `MapGPA`, asks for quotes by `GetQuote` and polls. Nothing is short-cut: every call goes through the module and
//! the host.

use tsmsim_abi::tdx::{
    get_quote::{GetQuoteHeader, GetQuoteStatus, VERSION, capacity},
    leaf::{LeafAndVersion, TdcallLeaf, VmcallControl},
    report::{Measurement, ReportMacStruct, TdReport},
    status::CompletionStatus,
    td_params::{EptpControls, TdAttributes, TdParams, Xfam},
    vmcall::{VmcallStatus, VmcallSubFunction},
};
use zerocopy::{FromZeros, IntoBytes};

use super::{
    PAGE_SIZE,
    machine::{Action, LaunchError, LaunchPlan, Machine, PlannedPage},
    platform::TdxPlatform,
    registers::{Gpr, Registers},
    vmcall::HostConfig,
};
use crate::env::OutOfRange;
pub use crate::snp::guest::World;

/// Guest-physical addresses of what [`InProcessTdGuest::launch`] launches besides the caller's pages.
mod place {
    pub(super) const REPORT: u64 = 0x1000;
    pub(super) const REPORT_DATA: u64 = 0x1400;
    pub(super) const DIGEST: u64 = 0x1480;
    pub(super) const QUOTE: u64 = 0x2000;
    pub(super) const QUOTE_PAGES: u64 = 8;
}

/// Lowest guest-physical address that a plan for [`InProcessTdGuest::launch`] may use.
pub const IMAGE_GPA: u64 = 0x1_0000;

/// Calls without progress after which Linux gives up `MapGPA`.
const MAP_RETRIES: u32 = 3;

/// Why a TD did not get what it wanted.
#[derive(Debug, thiserror::Error)]
pub enum TdGuestError {
    /// The TD could not be launched.
    #[error(transparent)]
    Launch(#[from] LaunchError),
    /// The TD reached outside its memory.
    #[error(transparent)]
    Memory(#[from] OutOfRange),
    /// The module refused.
    #[error("TDCALL failed: {0}")]
    Module(CompletionStatus),
    /// The host refused.
    #[error("TDVMCALL failed: {0}")]
    Host(VmcallStatus),
    /// The machine stopped instead of running on.
    #[error("the machine stopped: {0:?}")]
    Stopped(Action),
    /// `MapGPA` does not come forward, or sends the TD elsewhere.
    #[error("MapGPA cannot be trusted to end")]
    MapGpa,
    /// The quoting service did not answer while the TD polled.
    #[error("the quote stayed in flight")]
    Timeout,
    /// The quoting service failed.
    #[error("no quote: {0}")]
    Quote(GetQuoteStatus),
    /// The host says that the answer is longer than the buffer.
    #[error("a quote of {0} bytes does not fit into the buffer")]
    QuoteTooLarge(u32),
}

/// `TD_PARAMS` as a host gives them for a small TD: one VCPU, 48-bit addresses, no #VE for pages that are not accepted,
/// no debugging.
#[must_use]
pub fn default_params() -> TdParams {
    let eptp = EptpControls::new().with_memory_type(6).with_page_walk_length_minus_one(3);
    TdParams {
        attributes: u64::from(TdAttributes::new().with_sept_ve_disable(true)).into(),
        xfam: (Xfam::FIXED1 | 0xe4).into(),
        max_vcpus: 1.into(),
        eptp_controls: u64::from(eptp).into(),
        tsc_frequency: 100.into(),
        ..TdParams::new_zeroed()
    }
}

/// A TD without a virtual machine.
pub struct InProcessTdGuest {
    machine: Machine,
    world: World,
    polls: u32,
    ram_end: u64,
}

impl InProcessTdGuest {
    /// Launches a TD with the pages of `plan` (at [`IMAGE_GPA`] and above), then, not measured but for their addresses, the
    /// pages for its buffers; and shares the quote buffer. The first range of `plan.ram` must begin at zero and reach
    /// [`IMAGE_GPA`].
    ///
    /// # Errors
    /// [`TdGuestError::Launch`], or what went wrong in sharing.
    pub fn launch(
        platform: TdxPlatform,
        config: HostConfig,
        mut plan: LaunchPlan,
        mut world: World,
    ) -> Result<Self, TdGuestError> {
        let buffer = |index: u64| place::REPORT + index * PAGE_SIZE as u64;
        let page = |gpa| PlannedPage { gpa, contents: None, measured: false };
        plan.pages.extend((0..=place::QUOTE_PAGES).map(buffer).map(page));
        let ram_end = plan.ram.first().map_or(0, |range| range.end);
        let (mut env, _) = world.env();
        let machine = Machine::launch(platform, config, &plan, &mut env)?;
        let mut guest = Self { machine, world, polls: 30, ram_end };
        guest.share(place::QUOTE, place::QUOTE_PAGES * PAGE_SIZE as u64)?;
        Ok(guest)
    }

    /// How often the TD looks whether its quote is there: 30 unless set, as Linux does, once a second.
    #[must_use]
    pub const fn with_polls(mut self, polls: u32) -> Self {
        self.polls = polls;
        self
    }

    /// Module and host.
    #[must_use]
    pub const fn machine(&self) -> &Machine {
        &self.machine
    }

    /// Where the first range of memory ends.
    #[must_use]
    pub const fn ram_end(&self) -> u64 {
        self.ram_end
    }

    /// Memory, journal, faults and the rest.
    pub const fn world(&mut self) -> &mut World {
        &mut self.world
    }

    /// A TDCALL on VCPU 0, with whatever registers.
    pub fn tdcall(&mut self, registers: &mut Registers) -> Action {
        let (mut env, devices) = self.world.env();
        self.machine.tdcall(0, registers, &mut env, devices)
    }

    fn call(&mut self, leaf: TdcallLeaf, registers: Registers) -> Result<Registers, TdGuestError> {
        let rax = LeafAndVersion::new().with_leaf(leaf.0);
        let mut registers = registers.with(Gpr::Rax, rax.into());
        match self.tdcall(&mut registers) {
            Action::Resume => {}
            other => return Err(TdGuestError::Stopped(other)),
        }
        let status = CompletionStatus(registers[Gpr::Rax]);
        if status.is_error() { Err(TdGuestError::Module(status)) } else { Ok(registers) }
    }

    /// Lets the host complete the quotes that are due by now.
    pub fn poll(&mut self) {
        let (mut env, _) = self.world.env();
        self.machine.poll(&mut env);
    }

    /// A TDVMCALL with R12 and R13; gives R10 and R11.
    ///
    /// # Errors
    /// [`TdGuestError::Module`] or [`TdGuestError::Stopped`]; what the host answers is not one.
    pub fn vmcall(
        &mut self,
        sub_function: VmcallSubFunction,
        [r12, r13]: [u64; 2],
    ) -> Result<(VmcallStatus, u64), TdGuestError> {
        let control = VmcallControl::new().with_gpr_select(VmcallControl::GPR_R10_TO_R15);
        let registers = Registers::default()
            .with(Gpr::Rcx, control.into())
            .with(Gpr::R11, sub_function.0)
            .with(Gpr::R12, r12)
            .with(Gpr::R13, r13);
        let out = self.call(TdcallLeaf::TDG_VP_VMCALL, registers)?;
        Ok((VmcallStatus(out[Gpr::R10]), out[Gpr::R11]))
    }

    /// Shares memory (page-aligned address and size) with the host, as often as it wants to be called for that.
    ///
    /// # Errors
    /// What went wrong.
    pub fn share(&mut self, gpa: u64, len: u64) -> Result<(), TdGuestError> {
        let start = gpa | self.machine.td().shared_bit();
        let (mut next, end, mut retries) = (start, start + len, 0);
        loop {
            match self.vmcall(VmcallSubFunction::MAP_GPA, [next, end - next])? {
                (VmcallStatus::SUCCESS, _) => return Ok(()),
                (VmcallStatus::RETRY, failed) if failed == next && retries + 1 < MAP_RETRIES => retries += 1,
                (VmcallStatus::RETRY, failed) if failed > next && failed < end => {
                    (next, retries) = (failed, 0)
                }
                (VmcallStatus::RETRY, _) => return Err(TdGuestError::MapGpa),
                (status, _) => return Err(TdGuestError::Host(status)),
            }
        }
    }

    /// `TDG.MR.REPORT`.
    ///
    /// # Errors
    /// What went wrong.
    pub fn report(&mut self, report_data: &[u8; 64]) -> Result<TdReport, TdGuestError> {
        self.world.memory.write(place::REPORT_DATA, report_data)?;
        let registers = Registers::default().with(Gpr::Rcx, place::REPORT).with(Gpr::Rdx, place::REPORT_DATA);
        self.call(TdcallLeaf::TDG_MR_REPORT, registers)?;
        let mut report = TdReport::new_zeroed();
        self.world.memory.read(place::REPORT, report.as_mut_bytes())?;
        Ok(report)
    }

    /// `TDG.MR.VERIFYREPORT`.
    ///
    /// # Errors
    /// [`TdGuestError::Module`] if the report is not this platform's.
    pub fn verify_report(&mut self, report: &ReportMacStruct) -> Result<(), TdGuestError> {
        self.world.memory.write(place::REPORT, report.as_bytes())?;
        let registers = Registers::default().with(Gpr::Rcx, place::REPORT);
        self.call(TdcallLeaf::TDG_MR_VERIFYREPORT, registers).map(drop)
    }

    /// `TDG.MR.RTMR.EXTEND`.
    ///
    /// # Errors
    /// What went wrong.
    pub fn extend_rtmr(&mut self, index: u64, digest: &Measurement) -> Result<(), TdGuestError> {
        self.world.memory.write(place::DIGEST, digest)?;
        let registers = Registers::default().with(Gpr::Rcx, place::DIGEST).with(Gpr::Rdx, index);
        self.call(TdcallLeaf::TDG_MR_RTMR_EXTEND, registers).map(drop)
    }

    /// A quote: a report, put into the shared buffer.
    ///
    /// # Errors
    /// What went wrong.
    pub fn quote(&mut self, report_data: &[u8; 64]) -> Result<Vec<u8>, TdGuestError> {
        let report = self.report(report_data)?;
        self.quote_request(report.as_bytes())
    }

    /// What the quoting service answers to a request in the shared buffer: a TDREPORT, or a message with its frame.
    ///
    /// # Errors
    /// What went wrong.
    pub fn quote_request(&mut self, request: &[u8]) -> Result<Vec<u8>, TdGuestError> {
        let len = place::QUOTE_PAGES * PAGE_SIZE as u64;
        let data = place::QUOTE + size_of::<GetQuoteHeader>() as u64;
        let header = GetQuoteHeader {
            version: VERSION.into(),
            in_len: u32::try_from(request.len()).unwrap_or(u32::MAX).into(),
            ..GetQuoteHeader::new_zeroed()
        };
        if request.len() > capacity(usize::try_from(len).unwrap_or_default()) {
            return Err(OutOfRange { gpa: data, len: request.len() }.into());
        }
        self.world.memory.write(place::QUOTE, header.as_bytes())?;
        self.world.memory.write(data, request)?;
        let gpa = place::QUOTE | self.machine.td().shared_bit();
        match self.vmcall(VmcallSubFunction::GET_QUOTE, [gpa, len])? {
            (VmcallStatus::SUCCESS, _) => {}
            (status, _) => return Err(TdGuestError::Host(status)),
        }
        let header = self.wait()?;
        let out = usize::try_from(header.out_len.get()).ok();
        let room = capacity(usize::try_from(len).unwrap_or_default());
        let out = out.filter(|out| *out <= room).ok_or(TdGuestError::QuoteTooLarge(header.out_len.get()))?;
        let mut answer = vec![0; out];
        self.world.memory.read(data, &mut answer)?;
        Ok(answer)
    }

    fn wait(&mut self) -> Result<GetQuoteHeader, TdGuestError> {
        let mut header = GetQuoteHeader::new_zeroed();
        for _ in 0..=self.polls {
            self.poll();
            self.world.memory.read(place::QUOTE, header.as_mut_bytes())?;
            match GetQuoteStatus(header.status.get()) {
                GetQuoteStatus::SUCCESS => return Ok(header),
                GetQuoteStatus::IN_FLIGHT => {}
                status => return Err(TdGuestError::Quote(status)),
            }
        }
        Err(TdGuestError::Timeout)
    }
}
