//! Enclave identity version 2 (Intel PCS API version 4, *Get TDX QE Identity* and *Get SGX QE Identity*), members in Intel's
//! order.

use serde::Serialize;

use super::json::upper_hex;
use super::status::{TcbLevel, TcbStatus, Update, Verdict, levels};
use super::tcb_info::IsvSvn;
use super::{ISSUE_DATE, NEXT_UPDATE, Tee};

/// `MRSIGNER` of Intel's quoting enclave for TDX.
pub const TD_QE_MRSIGNER: [u8; 32] = [
    0xdc, 0x9e, 0x2a, 0x7c, 0x6f, 0x94, 0x8f, 0x17, 0x47, 0x4e, 0x34, 0xa7, 0xfc, 0x43, 0xed, 0x03, 0x0f,
    0x7c, 0x15, 0x63, 0xf1, 0xba, 0xbd, 0xdf, 0x63, 0x40, 0xc8, 0x2e, 0x0e, 0x54, 0xa8, 0xc5,
];
/// `MRSIGNER` of Intel's quoting enclave for SGX.
pub const QE_MRSIGNER: [u8; 32] = [
    0x8c, 0x4f, 0x57, 0x75, 0xd7, 0x96, 0x50, 0x3e, 0x96, 0x13, 0x7f, 0x77, 0xc6, 0x8a, 0x82, 0x9a, 0x00,
    0x56, 0xac, 0x8d, 0xed, 0x70, 0x14, 0x0b, 0x08, 0x1b, 0x09, 0x44, 0x90, 0xc5, 0x7b, 0xff,
];

/// A quoting enclave's identity before it is written.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct QeIdentity {
    /// `TD_QE` or `QE`.
    pub id: String,
    /// 2.
    pub version: u32,
    /// When it was made: ISO 8601, UTC.
    pub issue_date: String,
    /// When the next is due.
    pub next_update: String,
    /// Counts the data sets.
    pub tcb_evaluation_data_number: u32,
    /// `MISCSELECT`: 8 hexadecimal digits, in the order of the report's bytes.
    pub miscselect: String,
    /// Which of its bits count.
    pub miscselect_mask: String,
    /// `ATTRIBUTES`: 32 hexadecimal digits, in the order of the report's bytes.
    pub attributes: String,
    /// Which of its bits count.
    pub attributes_mask: String,
    /// `MRSIGNER`: 64 hexadecimal digits.
    pub mrsigner: String,
    /// `ISVPRODID`.
    pub isvprodid: u16,
    /// The levels, highest first.
    pub tcb_levels: Vec<TcbLevel<IsvSvn>>,
}

/// What QE identity is wanted: of which enclave, and how it is to judge it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct QeIdentitySpec {
    /// For TDX or SGX.
    pub tee: Tee,
    /// `MRSIGNER` of the enclave's report.
    pub mrsigner: [u8; 32],
    /// `MISCSELECT`, all bits of which count.
    pub miscselect: [u8; 4],
    /// `ATTRIBUTES`: flags, then XFRM, of which only the flags count, without bit 2 (`MODE64BIT`).
    pub attributes: [u8; 16],
    /// `ISVPRODID`.
    pub isvprodid: u16,
    /// `ISVSVN` of the enclave that is to be judged.
    pub isvsvn: u16,
    /// How it is to be judged. Intel's documents have `UpToDate`, `OutOfDate` and `Revoked` here, and strict verifiers
    /// refuse `SWHardeningNeeded` and `ConfigurationAndSWHardeningNeeded`.
    pub status: TcbStatus,
    /// The advisories of its level, where not the usual ones for its status.
    pub advisory_ids: Option<Vec<String>>,
    /// Which data set.
    pub update: Update,
    /// `issueDate`, [`ISSUE_DATE`] unless changed.
    pub issue_date: String,
    /// `nextUpdate`, [`NEXT_UPDATE`] unless changed.
    pub next_update: String,
}

impl QeIdentitySpec {
    /// The quoting enclave for TDX, up to date.
    #[must_use]
    pub fn td_qe() -> Self {
        Self {
            tee: Tee::Tdx,
            mrsigner: TD_QE_MRSIGNER,
            miscselect: [0; 4],
            // INIT and PROVISION_KEY.
            attributes: [0x11, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0],
            isvprodid: 2,
            isvsvn: 4,
            status: TcbStatus::UpToDate,
            advisory_ids: None,
            update: Update::Standard,
            issue_date: ISSUE_DATE.to_owned(),
            next_update: NEXT_UPDATE.to_owned(),
        }
    }

    /// The quoting enclave for SGX, up to date.
    #[must_use]
    pub fn qe() -> Self {
        Self { tee: Tee::Sgx, mrsigner: QE_MRSIGNER, isvprodid: 1, isvsvn: 8, ..Self::td_qe() }
    }

    /// The same, judging the enclave otherwise.
    #[must_use]
    pub fn with_status(self, status: TcbStatus) -> Self {
        Self { status, ..self }
    }

    /// The same of another data set.
    #[must_use]
    pub fn with_update(self, update: Update) -> Self {
        Self { update, ..self }
    }

    pub(super) fn body(&self) -> QeIdentity {
        let mut attributes_mask = [0; 16];
        attributes_mask[..8].copy_from_slice(&(!(1_u64 << 2)).to_le_bytes());
        let Self { status, update, .. } = *self;
        let verdict = Verdict { status, advisory_ids: self.advisory_ids.as_deref(), update };
        QeIdentity {
            id: if self.tee == Tee::Tdx { "TD_QE" } else { "QE" }.to_owned(),
            version: 2,
            issue_date: self.issue_date.clone(),
            next_update: self.next_update.clone(),
            tcb_evaluation_data_number: update.tcb_evaluation_data_number(),
            miscselect: upper_hex(&self.miscselect),
            miscselect_mask: upper_hex(&[0xff; 4]),
            attributes: upper_hex(&self.attributes),
            attributes_mask: upper_hex(&attributes_mask),
            mrsigner: upper_hex(&self.mrsigner),
            isvprodid: self.isvprodid,
            tcb_levels: levels(&IsvSvn { isvsvn: self.isvsvn }, &verdict),
        }
    }
}
