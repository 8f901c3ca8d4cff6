//! TCB info version 3 (Intel PCS API version 4, *Get TDX TCB Info* and *Get SGX TCB Info*), members in Intel's order.

use serde::Serialize;

use super::json::upper_hex;
use super::status::{Svn, TcbLevel, TcbStatus, Update, Verdict, levels};
use super::{ISSUE_DATE, NEXT_UPDATE, PlatformIdentity, Tee};

/// TCB info before it is written.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct TcbInfo {
    /// `TDX` or `SGX`.
    pub id: String,
    /// 3.
    pub version: u32,
    /// When it was made: ISO 8601, UTC.
    pub issue_date: String,
    /// When the next is due.
    pub next_update: String,
    /// Whom it is about: 12 hexadecimal digits.
    pub fmspc: String,
    /// Four hexadecimal digits.
    pub pce_id: String,
    /// 0.
    pub tcb_type: u32,
    /// Counts the data sets.
    pub tcb_evaluation_data_number: u32,
    /// The TDX module of TDX 1.0. Left out for SGX.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tdx_module: Option<TdxModule>,
    /// The TDX modules of later versions. Left out for SGX.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tdx_module_identities: Option<Vec<TdxModuleIdentity>>,
    /// The levels, highest first.
    pub tcb_levels: Vec<TcbLevel<Tcb>>,
}

/// `tdxModule`.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct TdxModule {
    /// `MRSIGNERSEAM`: 96 hexadecimal digits.
    pub mrsigner: String,
    /// `SEAMATTRIBUTES`: 16 hexadecimal digits.
    pub attributes: String,
    /// Which of its bits count.
    pub attributes_mask: String,
}

/// One of `tdxModuleIdentities`.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct TdxModuleIdentity {
    /// `TDX_` and the module's major version, two hexadecimal digits: byte 1 of `TEE_TCB_SVN`.
    pub id: String,
    /// Signer and attributes.
    #[serde(flatten)]
    pub module: TdxModule,
    /// The module's own levels, highest first.
    pub tcb_levels: Vec<TcbLevel<IsvSvn>>,
}

/// A security version number of an enclave or module.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
pub struct IsvSvn {
    /// For a TDX module, byte 0 of `TEE_TCB_SVN`.
    pub isvsvn: u16,
}

/// `tcb` of a platform's level.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
pub struct Tcb {
    /// Sixteen components of the platform.
    pub sgxtcbcomponents: Vec<TcbComponent>,
    /// The provisioning certification enclave.
    pub pcesvn: u16,
    /// Sixteen components of TDX: `TEE_TCB_SVN`. Left out for SGX.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tdxtcbcomponents: Option<Vec<TcbComponent>>,
}

/// One component's security version number.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
pub struct TcbComponent {
    /// At least this.
    pub svn: u8,
    /// What brings the update: `BIOS` or `OS/VMM`. Left out where Intel does.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub category: Option<String>,
    /// What it is.
    #[serde(rename = "type", skip_serializing_if = "Option::is_none")]
    pub kind: Option<String>,
}

const BIOS: Option<&str> = Some("BIOS");
const OS_VMM: Option<&str> = Some("OS/VMM");
type Description = (Option<&'static str>, Option<&'static str>);

/// Category and type of the first components; the others have neither.
const SGX_COMPONENTS: [Description; 8] = [
    (BIOS, Some("Early Microcode Update")),
    (OS_VMM, Some("SGX Late Microcode Update")),
    (OS_VMM, Some("TXT SINIT")),
    (BIOS, None),
    (BIOS, None),
    (BIOS, None),
    (None, None),
    (OS_VMM, Some("SEAMLDR ACM")),
];
const TDX_COMPONENTS: [Description; 3] =
    [(OS_VMM, Some("TDX Module")), (OS_VMM, Some("TDX Module")), (OS_VMM, Some("TDX Late Microcode Update"))];

fn components(svns: &[u8], descriptions: &[Description]) -> Vec<TcbComponent> {
    let descriptions = descriptions.iter().copied().chain(std::iter::repeat((None, None)));
    let component = |(svn, (category, kind)): (&u8, Description)| TcbComponent {
        svn: *svn,
        category: category.map(str::to_owned),
        kind: kind.map(str::to_owned),
    };
    svns.iter().zip(descriptions).map(component).collect()
}

impl Svn for Tcb {
    /// The first component that can go up, in the order in which verifiers sort levels.
    fn raised(&self) -> Option<Self> {
        let mut raised = self.clone();
        let component = raised.sgxtcbcomponents.iter_mut().find(|component| component.svn < u8::MAX)?;
        component.svn += 1;
        Some(raised)
    }

    fn lowered(&self) -> Self {
        let mut lowered = self.clone();
        if let Some(component) = lowered.sgxtcbcomponents.first_mut() {
            component.svn = component.svn.saturating_sub(1);
        }
        lowered
    }

    fn lowest(&self) -> Self {
        let mut lowest = self.clone();
        lowest.pcesvn = lowest.pcesvn.min(5);
        let tdx = lowest.tdxtcbcomponents.iter_mut().flatten();
        lowest.sgxtcbcomponents.iter_mut().chain(tdx).for_each(|component| component.svn = 0);
        lowest
    }
}

impl Svn for IsvSvn {
    fn raised(&self) -> Option<Self> {
        self.isvsvn.checked_add(1).map(|isvsvn| Self { isvsvn })
    }

    fn lowered(&self) -> Self {
        Self { isvsvn: self.isvsvn.saturating_sub(1) }
    }

    fn lowest(&self) -> Self {
        Self { isvsvn: 0 }
    }
}

/// What TCB info is wanted: about which platform, and how it is to judge it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct TcbInfoSpec {
    /// For TDX or SGX.
    pub tee: Tee,
    /// Family, model, stepping, platform type and custom SKU.
    pub fmspc: [u8; 6],
    /// `PCE-ID`.
    pub pce_id: [u8; 2],
    /// The components of the PCK certificate that is to be judged.
    pub components: [u8; 16],
    /// Its `PCESVN`.
    pub pcesvn: u16,
    /// `TEE_TCB_SVN` of the quote that is to be judged. Unused for SGX.
    pub tee_tcb_svn: [u8; 16],
    /// `MRSIGNERSEAM` of the TDX module: zero for Intel's. Unused for SGX.
    pub mrsignerseam: [u8; 48],
    /// How the platform is to be judged.
    pub status: TcbStatus,
    /// How the TDX module is to be judged, where it has an identity of its own: from TDX 1.5 on. Intel's documents have
    /// `UpToDate`, `OutOfDate` and `Revoked` here, of which the latter two make the platform's status worse; strict verifiers
    /// refuse the others.
    pub module_status: TcbStatus,
    /// The advisories of the platform's level, where not the usual ones for its status.
    pub advisory_ids: Option<Vec<String>>,
    /// Which data set.
    pub update: Update,
    /// `issueDate`, [`ISSUE_DATE`] unless changed.
    pub issue_date: String,
    /// `nextUpdate`, [`NEXT_UPDATE`] unless changed.
    pub next_update: String,
}

impl TcbInfoSpec {
    /// TDX TCB info by which a platform that reports this `TEE_TCB_SVN` is up to date.
    #[must_use]
    pub fn tdx(platform: &PlatformIdentity, tee_tcb_svn: [u8; 16]) -> Self {
        Self {
            tee: Tee::Tdx,
            fmspc: platform.fmspc,
            pce_id: platform.pce_id,
            components: platform.tcb.components,
            pcesvn: platform.tcb.pcesvn,
            tee_tcb_svn,
            mrsignerseam: [0; 48],
            status: TcbStatus::UpToDate,
            module_status: TcbStatus::UpToDate,
            advisory_ids: None,
            update: Update::Standard,
            issue_date: ISSUE_DATE.to_owned(),
            next_update: NEXT_UPDATE.to_owned(),
        }
    }

    /// SGX TCB info by which a platform is up to date.
    #[must_use]
    pub fn sgx(platform: &PlatformIdentity) -> Self {
        Self { tee: Tee::Sgx, ..Self::tdx(platform, [0; 16]) }
    }

    /// The same, judging the platform otherwise.
    #[must_use]
    pub fn with_status(self, status: TcbStatus) -> Self {
        Self { status, ..self }
    }

    /// The same of another data set.
    #[must_use]
    pub fn with_update(self, update: Update) -> Self {
        Self { update, ..self }
    }

    pub(super) fn body(&self) -> TcbInfo {
        let tdx = self.tee == Tee::Tdx;
        let tdxtcbcomponents = tdx.then(|| {
            // Byte 1 is the module's major version: levels leave it to the module identities.
            let mut svns = self.tee_tcb_svn;
            svns[1] = 0;
            components(&svns, &TDX_COMPONENTS)
        });
        let sgxtcbcomponents = components(&self.components, &SGX_COMPONENTS);
        let tcb = Tcb { sgxtcbcomponents, pcesvn: self.pcesvn, tdxtcbcomponents };
        let verdict = self.verdict(self.status, self.advisory_ids.as_deref());
        TcbInfo {
            id: self.tee.name().to_owned(),
            version: 3,
            issue_date: self.issue_date.clone(),
            next_update: self.next_update.clone(),
            fmspc: upper_hex(&self.fmspc),
            pce_id: upper_hex(&self.pce_id),
            tcb_type: 0,
            tcb_evaluation_data_number: self.update.tcb_evaluation_data_number(),
            tdx_module: tdx.then(|| self.module()),
            tdx_module_identities: tdx.then(|| self.module_identities()),
            tcb_levels: levels(&tcb, &verdict),
        }
    }

    fn verdict<'a>(&self, status: TcbStatus, advisory_ids: Option<&'a [String]>) -> Verdict<'a> {
        Verdict { status, advisory_ids, update: self.update }
    }

    fn module(&self) -> TdxModule {
        TdxModule {
            mrsigner: upper_hex(&self.mrsignerseam),
            attributes: upper_hex(&[0; 8]),
            attributes_mask: upper_hex(&[0xff; 8]),
        }
    }

    /// The modules of TDX 2.0 and 1.5, as Intel lists them, with the platform's own among them or before them. A module of
    /// version 0, that of TDX 1.0, has no identity: [`TdxModule`] speaks for it.
    fn module_identities(&self) -> Vec<TdxModuleIdentity> {
        let [own_svn, own_version, ..] = self.tee_tcb_svn;
        let mut modules = vec![(3, 3), (1, 4)];
        match modules.iter_mut().find(|(version, _)| *version == own_version) {
            Some((_, svn)) => *svn = own_svn,
            None if own_version != 0 => modules.insert(0, (own_version, own_svn)),
            None => {}
        }
        let identity = |(version, svn): (u8, u8)| {
            let status = if version == own_version { self.module_status } else { TcbStatus::UpToDate };
            TdxModuleIdentity {
                id: format!("TDX_{version:02X}"),
                module: self.module(),
                tcb_levels: levels(&IsvSvn { isvsvn: svn.into() }, &self.verdict(status, None)),
            }
        };
        modules.into_iter().map(identity).collect()
    }
}
