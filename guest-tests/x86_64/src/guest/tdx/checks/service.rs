//! `Service`: asking the host which services it has.

use tsmsim_abi::{
    guid::Guid,
    tdx::vmcall::{
        SERVICE_MIGTD_GUID, SERVICE_QUERY_GUID, ServiceHeader, ServiceQueryCommand, ServiceQueryResponse,
        ServiceStatus, VmcallStatus, VmcallSubFunction,
    },
};
use zerocopy::FromZeros;

use super::super::{call::Vmcall, td::Td};
use crate::guest::tap::{Check, Tap, equal};

const HEADER: usize = size_of::<ServiceHeader>();
/// Bytes of a query.
const COMMAND: u32 = 44;
const _: () = assert!(HEADER + size_of::<ServiceQueryCommand>() == COMMAND as usize);

pub(super) fn run(td: &Td, tap: &mut Tap) {
    tap.check("Service.Query: itself", query(td, SERVICE_QUERY_GUID, 0));
    tap.check("Service.Query: MigTD, which is not there", query(td, SERVICE_MIGTD_GUID, 1));
    for (name, guid, length, room, status) in [
        ("Service: unknown", SERVICE_MIGTD_GUID, COMMAND, 4096, ServiceStatus::UNSUPPORTED),
        (
            "Service.Query: short command",
            SERVICE_QUERY_GUID,
            24,
            4096,
            ServiceStatus::BAD_COMMAND_BUFFER_SIZE,
        ),
        (
            "Service.Query: little room",
            SERVICE_QUERY_GUID,
            COMMAND,
            24,
            ServiceStatus::RESPONSE_BUFFER_TOO_SMALL,
        ),
    ] {
        tap.check(name, call(td, guid, length, room).and_then(|answer| status_is(&answer, status)));
    }
    let [command, response] = td.service.map(|page| td.shared_gpa(page));
    let private = td.private.gpa();
    for (name, operands, status) in [
        ("Service: unaligned", [command + 1, response, 0], VmcallStatus::ALIGN_ERROR),
        ("Service: private command", [private, response, 0], VmcallStatus::INVALID_OPERAND),
        ("Service: private response", [command, private | td.shared, 0], VmcallStatus::INVALID_OPERAND),
        ("Service: exception as vector", [command, response, 31], VmcallStatus::INVALID_OPERAND),
    ] {
        let call = Vmcall::new(VmcallSubFunction::SERVICE).operands(operands);
        tap.check(name, call.refused(status));
    }
}

/// Makes the call with a query behind the header; gives the header of the response.
fn call(td: &Td, guid: Guid, length: u32, room: u32) -> Check<ServiceHeader> {
    let [command, response] = td.service;
    command.write(0, &ServiceHeader { guid, length: length.into(), status: 0.into() });
    response.write(0, &ServiceHeader { length: room.into(), ..ServiceHeader::new_zeroed() });
    let operands = [command, response].map(|page| td.shared_gpa(page));
    Vmcall::new(VmcallSubFunction::SERVICE).operands(operands).succeed()?;
    Ok(response.read(0))
}

fn query(td: &Td, guid: Guid, expected: u8) -> Check {
    td.service[0].write(HEADER, &ServiceQueryCommand { version: 0, command: 0, reserved: [0; 2], guid });
    let answer = call(td, SERVICE_QUERY_GUID, COMMAND, 4096)?;
    status_is(&answer, ServiceStatus::SUCCESS)?;
    let response: ServiceQueryResponse = td.service[1].read(HEADER);
    equal("GUID", response.guid, guid)?;
    equal("status of the service", response.status, expected)
}

fn status_is(answer: &ServiceHeader, status: ServiceStatus) -> Check {
    equal("status", ServiceStatus(answer.status.get()), status)
}
