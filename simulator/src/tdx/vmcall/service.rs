//! `Service`: commands to services that the host offers; here, to ask which there are (348552, section of
//! that name).

use tsmsim_abi::tdx::vmcall::{
    EVENT_NOTIFY_VECTORS, SERVICE_QUERY_GUID, ServiceHeader, ServiceQueryCommand, ServiceQueryResponse,
    ServiceStatus, VmcallStatus,
};
use zerocopy::{FromZeros, IntoBytes};

use super::{Host, Request};
use crate::tdx::{PAGE_SIZE, registers::Gpr};

const HEADER: usize = size_of::<ServiceHeader>();
const QUERY: usize = HEADER + size_of::<ServiceQueryCommand>();

impl Host {
    /// `Service`. Answered at once, so the vector and the timeout are checked and not used.
    pub(super) fn service_call(&self, request: &Request<'_, '_>) -> Result<(), VmcallStatus> {
        let [command, response, vector] =
            [Gpr::R12, Gpr::R13, Gpr::R14].map(|register| request.registers[register]);
        let page = PAGE_SIZE as u64;
        if !command.is_multiple_of(page) || !response.is_multiple_of(page) {
            return Err(VmcallStatus::ALIGN_ERROR);
        }
        if vector != 0 && !EVENT_NOTIFY_VECTORS.contains(&vector) {
            return Err(VmcallStatus::INVALID_OPERAND);
        }
        let [command_at, response_at] = [request.shared(command, page)?, request.shared(response, page)?];
        let invalid = |_| VmcallStatus::INVALID_OPERAND;
        let (mut header, mut room) = (ServiceHeader::new_zeroed(), ServiceHeader::new_zeroed());
        let memory = request.env.memory;
        memory.read(command_at, header.as_mut_bytes()).map_err(invalid)?;
        memory.read(response_at, room.as_mut_bytes()).map_err(invalid)?;
        let mut query = ServiceQueryCommand::new_zeroed();
        memory.read(command_at + HEADER as u64, query.as_mut_bytes()).map_err(invalid)?;
        let room = usize::try_from(room.length.get()).unwrap_or(usize::MAX);
        if room < HEADER {
            return Err(VmcallStatus::INVALID_OPERAND);
        }
        let (status, data) = answer(&header, &query, room);
        let length =
            if status == ServiceStatus::RESPONSE_BUFFER_TOO_SMALL { QUERY } else { HEADER + data.len() };
        let length = u32::try_from(length).unwrap_or(u32::MAX);
        let head = ServiceHeader { guid: header.guid, length: length.into(), status: status.0.into() };
        memory.write(response_at, &[head.as_bytes(), &data].concat()).map_err(invalid)
    }
}

fn answer(header: &ServiceHeader, query: &ServiceQueryCommand, room: usize) -> (ServiceStatus, Vec<u8>) {
    let length = usize::try_from(header.length.get()).unwrap_or(usize::MAX);
    let status = match header.guid {
        SERVICE_QUERY_GUID if length != QUERY => ServiceStatus::BAD_COMMAND_BUFFER_SIZE,
        SERVICE_QUERY_GUID if query.version != 0 || query.command != 0 => ServiceStatus::INVALID_PARAMETER,
        SERVICE_QUERY_GUID if room < QUERY => ServiceStatus::RESPONSE_BUFFER_TOO_SMALL,
        SERVICE_QUERY_GUID => ServiceStatus::SUCCESS,
        _ => ServiceStatus::UNSUPPORTED,
    };
    if status != ServiceStatus::SUCCESS {
        return (status, Vec::new());
    }
    let supported = u8::from(query.guid != SERVICE_QUERY_GUID);
    let response =
        ServiceQueryResponse { version: 0, command: 0, status: supported, reserved: 0, guid: query.guid };
    (status, response.as_bytes().to_vec())
}
