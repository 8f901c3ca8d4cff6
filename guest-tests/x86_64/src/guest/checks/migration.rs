//! Messages for migration agents (56860, sections 7.5 to 7.8), which this guest is not: it has nobody to migrate.

use tsmsim_abi::snp::{
    message::MessageType,
    payload::{IncomingContextReq, StatusRsp, VmrkReq},
    status::FirmwareStatus,
};
use zerocopy::{FromZeros, Immutable, IntoBytes};

use crate::guest::{
    machine::Machine,
    tap::{Check, Tap, equal},
};

pub(in crate::guest) fn run(machine: &mut Machine, tap: &mut Tap) {
    let (vmrk, context) = (VmrkReq::new_zeroed(), IncomingContextReq::new_zeroed());
    let reserved = VmrkReq { reserved_0x8: [1; 24], ..vmrk };
    let (param, guest) = (FirmwareStatus::INVALID_PARAM, FirmwareStatus::INVALID_GUEST);
    tap.check("VMRK_REQ: no guest context", refused(machine, 0, MessageType::VMRK_REQ, &vmrk, guest));
    tap.check("VMRK_REQ: reserved", refused(machine, 0, MessageType::VMRK_REQ, &reserved, param));
    tap.check("VMRK_REQ: not VMPCK0", refused(machine, 1, MessageType::VMRK_REQ, &vmrk, param));
    let size = refused(machine, 0, MessageType::IMPORT_REQ, &context, param);
    tap.check("IMPORT_REQ: IN_GCTX_SIZE zero", size);
}

fn refused<Q: IntoBytes + Immutable>(
    machine: &mut Machine,
    vmpck: usize,
    msg_type: MessageType,
    request: &Q,
    status: FirmwareStatus,
) -> Check {
    let answer: StatusRsp = machine.ask(vmpck, msg_type, request)?;
    equal("STATUS", FirmwareStatus(answer.status.get()), status)
}
