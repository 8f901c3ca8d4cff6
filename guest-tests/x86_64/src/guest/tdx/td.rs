//! The TD once it is set up: what the module says of it, its pages, reports.

use tsmsim_abi::{
    guest_test::Parameters,
    snp::PAGE_SIZE,
    tdx::{
        leaf::{PageInfo, PageLevel, TdcallLeaf, shared_bit},
        metadata::FieldId,
        report::{TdInfo, TdReport},
        status::CompletionStatus,
        td_params::TdAttributes,
        vmcall::{VmcallStatus, VmcallSubFunction},
    },
};

use super::{
    call::{Tdcall, Vmcall},
    log::Log,
};
use crate::guest::{
    arch::{
        memory::GuestPage,
        td::{gpr, map_private},
    },
    tap::{Check, Why, ensure, equal},
};

/// Pages of the quote buffer.
pub(super) const QUOTE_PAGES: u32 = 8;
/// Its size.
pub(super) const QUOTE_SIZE: u64 = QUOTE_PAGES as u64 * PAGE_SIZE as u64;
/// Calls without progress after which Linux gives up `MapGPA`.
const MAP_RETRIES: u32 = 3;

/// Where operands lie in the data page.
pub(super) mod place {
    /// Report data.
    pub(in crate::guest::tdx) const REPORT_DATA: usize = 0;
    /// A digest.
    pub(in crate::guest::tdx) const DIGEST: usize = 0x100;
    /// A REPORTMACSTRUCT.
    pub(in crate::guest::tdx) const REPORT_MAC: usize = 0x200;
    /// A TDREPORT.
    pub(in crate::guest::tdx) const REPORT: usize = 0x400;
}

/// The TD.
pub(super) struct Td {
    /// The bit of shared addresses.
    pub(super) shared: u64,
    /// Width of addresses.
    pub(super) gpa_width: u64,
    /// Its attributes.
    pub(super) attributes: TdAttributes,
    /// `TDG.SYS.RD` is there: module 1.5 or later.
    pub(super) later: bool,
    /// Private page for operands.
    pub(super) data: GuestPage,
    /// First page of the quote buffer, shared.
    pub(super) quote: GuestPage,
    /// Two shared pages.
    pub(super) service: [GuestPage; 2],
    /// A private page.
    pub(super) private: GuestPage,
    /// Data for the report that the host wants.
    pub(super) report_data: [u8; 64],
    /// What was measured.
    pub(super) log: Log,
}

impl Td {
    /// Asks the module who this is, and shares the pages that the host is to see.
    pub(super) fn start(parameters: &Parameters) -> Check<Self> {
        let info = Tdcall::new(TdcallLeaf::TDG_VP_INFO).succeed()?;
        let gpa_width = info.get(gpr::RCX);
        let Some(shared) = shared_bit(gpa_width) else {
            return Err(Why::new(format_args!("addresses of {gpa_width} bits")));
        };
        let page = GuestPage::launched;
        let td = Self {
            shared,
            gpa_width,
            attributes: info.get(gpr::RDX).into(),
            later: info.get(gpr::R10) & 1 == 1,
            data: page(0),
            quote: page(8),
            service: [page(1), page(2)],
            private: page(3),
            report_data: parameters.report_data,
            log: Log::new(),
        };
        td.map(td.quote, QUOTE_PAGES, false)?;
        td.map(td.service[0], 2, false)?;
        Ok(td)
    }

    /// The address of a page as the host is to use it.
    pub(super) fn shared_gpa(&self, page: GuestPage) -> u64 {
        page.gpa() | self.shared
    }

    /// Has the host convert pages, as often as it wants to be called for that, and maps them so. Gives the number of calls.
    /// Pages that become private have to be accepted.
    pub(super) fn map(&self, first: GuestPage, pages: u32, private: bool) -> Check<u32> {
        let start = if private { first.gpa() } else { self.shared_gpa(first) };
        let (mut next, end) = (start, start + u64::from(pages) * PAGE_SIZE as u64);
        let (mut retries, mut calls) = (0, 0);
        loop {
            calls += 1;
            let answer = Vmcall::new(VmcallSubFunction::MAP_GPA).operands([next, end - next]).run()?;
            match (answer.status(), answer.get(gpr::R11)) {
                (VmcallStatus::SUCCESS, _) => break,
                (VmcallStatus::RETRY, failed) if failed == next && retries + 1 < MAP_RETRIES => retries += 1,
                (VmcallStatus::RETRY, failed) if failed > next && failed < end => {
                    (next, retries) = (failed, 0)
                }
                (status, failed) => {
                    return Err(Why::new(format_args!("MapGPA: {status:?}, R11 {failed:#x}")));
                }
            }
        }
        for gpa in (first.gpa()..).step_by(PAGE_SIZE).take(pages as usize) {
            ensure!(map_private(gpa, private), "page {gpa:#x} cannot be mapped otherwise");
        }
        Ok(calls)
    }

    /// `TDG.MEM.PAGE.ACCEPT` of a page at this level.
    pub(super) fn accept(gpa: u64, level: PageLevel) -> Tdcall {
        let page = PageInfo::new().with_page(gpa >> 12).with_level(level.0);
        Tdcall::new(TdcallLeaf::TDG_MEM_PAGE_ACCEPT).rcx(page.into())
    }

    /// The address of an operand.
    pub(super) fn operand(&self, place: usize) -> u64 {
        self.data.gpa() + place as u64
    }

    /// `TDG.MR.REPORT` to be made.
    pub(super) fn report_call(&self, report_data: &[u8; 64]) -> Tdcall {
        self.data.write(place::REPORT_DATA, report_data);
        Tdcall::new(TdcallLeaf::TDG_MR_REPORT)
            .rcx(self.operand(place::REPORT))
            .rdx(self.operand(place::REPORT_DATA))
    }

    /// A report with these data.
    pub(super) fn report(&self, report_data: &[u8; 64]) -> Check<TdReport> {
        self.report_call(report_data).succeed()?;
        Ok(self.data.read(place::REPORT))
    }

    /// What the module holds of the TD.
    pub(super) fn info(&self) -> Check<TdInfo> {
        Ok(self.report(&[0; 64])?.td_info)
    }

    /// `TDG.VM.RD` of a field's element.
    pub(super) fn field(field: FieldId) -> Check<u64> {
        let answer = Tdcall::new(TdcallLeaf::TDG_VM_RD).rdx(field.0).run();
        equal("RAX", answer.status(), CompletionStatus::SUCCESS)?;
        Ok(answer.get(gpr::R8))
    }
}
