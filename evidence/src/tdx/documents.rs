//! TCB info version 3 and enclave identity version 2 (Intel PCS API version 4).

use serde::{Deserialize, Deserializer, de::Error as _};
use tsmsim_abi::tdx::pck::SgxTcb;

use super::{TcbStatus, collateral::array};
use crate::Timestamp;

/// TCB info of a family of platforms.
#[derive(Clone, PartialEq, Eq, Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct TcbInfo {
    pub(super) id: String,
    pub(super) version: u32,
    #[serde(deserialize_with = "time")]
    pub(super) issue_date: Timestamp,
    #[serde(deserialize_with = "time")]
    pub(super) next_update: Timestamp,
    #[serde(deserialize_with = "array")]
    pub(super) fmspc: [u8; 6],
    #[serde(deserialize_with = "array")]
    pub(super) pce_id: [u8; 2],
    pub(super) tcb_type: u32,
    pub(super) tcb_evaluation_data_number: u32,
    pub(super) tdx_module: Option<TdxModule>,
    #[serde(default)]
    pub(super) tdx_module_identities: Vec<TdxModuleIdentity>,
    pub(super) tcb_levels: Vec<Level<Tcb>>,
}

/// What the module must be.
#[derive(Clone, PartialEq, Eq, Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct TdxModule {
    #[serde(deserialize_with = "array")]
    pub(super) mrsigner: [u8; 48],
    #[serde(deserialize_with = "array")]
    pub(super) attributes: [u8; 8],
    #[serde(deserialize_with = "array")]
    pub(super) attributes_mask: [u8; 8],
}

/// What a module of one major version must be.
#[derive(Clone, PartialEq, Eq, Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct TdxModuleIdentity {
    pub(super) id: String,
    #[serde(flatten)]
    pub(super) module: TdxModule,
    pub(super) tcb_levels: Vec<Level<IsvSvn>>,
}

/// A TCB level.
#[derive(Clone, PartialEq, Eq, Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Level<T> {
    pub(super) tcb: T,
    #[serde(deserialize_with = "time")]
    pub(super) tcb_date: Timestamp,
    pub(super) tcb_status: TcbStatus,
    #[serde(rename = "advisoryIDs", default)]
    pub(super) advisory_ids: Vec<String>,
}

/// Security versions of a platform.
#[derive(Clone, PartialEq, Eq, Debug, Deserialize)]
pub(super) struct Tcb {
    sgxtcbcomponents: [Component; 16],
    pcesvn: u16,
    tdxtcbcomponents: Option<[Component; 16]>,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug, Deserialize)]
struct Component {
    svn: u8,
}

impl Tcb {
    pub(super) fn sgx(&self) -> SgxTcb {
        SgxTcb { components: self.sgxtcbcomponents.map(|component| component.svn), pce_svn: self.pcesvn }
    }

    pub(super) fn tdx(&self) -> Option<[u8; 16]> {
        self.tdxtcbcomponents.map(|components| components.map(|component| component.svn))
    }
}

/// Security version of an enclave or of the module.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Deserialize)]
pub(super) struct IsvSvn {
    pub(super) isvsvn: u16,
}

/// Identity of a quoting enclave.
#[derive(Clone, PartialEq, Eq, Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct QeIdentity {
    pub(super) id: String,
    pub(super) version: u32,
    #[serde(deserialize_with = "time")]
    pub(super) issue_date: Timestamp,
    #[serde(deserialize_with = "time")]
    pub(super) next_update: Timestamp,
    pub(super) tcb_evaluation_data_number: u32,
    #[serde(deserialize_with = "array")]
    pub(super) miscselect: [u8; 4],
    #[serde(rename = "miscselectMask", deserialize_with = "array")]
    pub(super) miscselect_mask: [u8; 4],
    #[serde(deserialize_with = "array")]
    pub(super) attributes: [u8; 16],
    #[serde(deserialize_with = "array")]
    pub(super) attributes_mask: [u8; 16],
    #[serde(deserialize_with = "array")]
    pub(super) mrsigner: [u8; 32],
    pub(super) isvprodid: u16,
    pub(super) tcb_levels: Vec<Level<IsvSvn>>,
}

fn time<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Timestamp, D::Error> {
    String::deserialize(deserializer)?.parse().map_err(D::Error::custom)
}
