//! Non-automatic exits: read the GHCB once, check it, dispatch, write back (56421 rev. 2.04, chapter 4).

use tsmsim_abi::snp::{
    ghcb::{ExitCode, Ghcb, GhcbField, MalformedInput},
    msr::{PROTOCOL_MAX, PROTOCOL_MIN, TerminationReason},
};
use zerocopy::{FromZeros, IntoBytes};

use super::{
    Action, Hypervisor, Termination,
    ap::ResetHold,
    exit::{Exit, Refusal, Reply, low32},
};
use crate::{
    env::{Env, HostDevices},
    fault::{FaultAction, FaultPoint, apply, consult},
    journal::Event,
    snp::event::{SnpEvent, Violation},
};

/// KVM's "no such hypercall", which Linux guests know.
const KVM_ENOSYS: u64 = 1000;

impl Hypervisor {
    /// Serves the exit that the GHCB at `ghcb_gpa` describes.
    pub(super) fn exit(
        &mut self,
        vcpu: usize,
        ghcb_gpa: u64,
        env: &mut Env<'_>,
        devices: &mut dyn HostDevices,
    ) -> Action {
        // The MSR's value before the guest set it: there is no GHCB, and no page 0 to scribble over. KVM has it so, too.
        if ghcb_gpa == 0 {
            self.violation(ghcb_gpa, Violation::GhcbNotRegistered, env);
            return Action::Resume;
        }
        let mut ghcb = Ghcb::new_zeroed();
        if !self.reachable(ghcb_gpa, size_of::<Ghcb>(), env)
            || env.memory.read(ghcb_gpa, ghcb.as_mut_bytes()).is_err()
        {
            return Action::Resume;
        }
        let mut exit = Exit { vcpu, ghcb_gpa, ghcb: &ghcb, env, devices };
        let fault = consult(exit.env.faults, exit.env.journal, FaultPoint::GHCB_EXIT);
        let mut reply = match fault {
            Some(FaultAction::Status(reason)) => Refusal::from(MalformedInput(reason)).into(),
            _ => self.check(&mut exit).and_then(|()| self.dispatch(&mut exit)).unwrap_or_else(Reply::from),
        };
        if let Some(action) = fault.as_ref().filter(|action| action.is_data()) {
            let mut infos = [reply.info1, reply.info2].map(u64::to_le_bytes).concat();
            if apply(env.journal, FaultPoint::GHCB_EXIT, action, &mut infos) {
                let info = |n: usize| infos[n..].first_chunk().copied().map_or(0, u64::from_le_bytes);
                (reply.info1, reply.info2) = (info(0), info(8));
            }
        }
        let (info1, info2) = (reply.info1, reply.info2);
        env.journal.record(Event::Snp(SnpEvent::Exit {
            vcpu,
            code: ExitCode(ghcb.sw_exit_code.get()),
            info1,
            info2,
        }));
        if fault != Some(FaultAction::Drop) {
            self.write_back(ghcb_gpa, &reply, env);
        }
        reply.action
    }

    /// What must hold for every exit, and the fields that this one needs (56421, table 7).
    fn check(&self, exit: &mut Exit<'_, '_>) -> Result<(), Refusal> {
        if self.vcpus[exit.vcpu].ghcb != Some(exit.ghcb_gpa) {
            self.violation(exit.ghcb_gpa, Violation::GhcbNotRegistered, exit.env);
            return Err(MalformedInput::GHCB_NOT_REGISTERED.into());
        }
        if exit.ghcb.ghcb_usage.get() != 0 {
            return Err(MalformedInput::INVALID_GHCB_USAGE.into());
        }
        if !(PROTOCOL_MIN..=PROTOCOL_MAX).contains(&exit.ghcb.protocol_version.get()) {
            return Err(MalformedInput::INVALID_INPUT.into());
        }
        let always = [GhcbField::SW_EXIT_CODE, GhcbField::SW_EXIT_INFO_1, GhcbField::SW_EXIT_INFO_2];
        let required = always.iter().chain(required_fields(exit));
        if required.into_iter().any(|field| !exit.ghcb.is_valid(*field)) {
            return Err(MalformedInput::MISSING_INPUT.into());
        }
        Ok(())
    }

    fn dispatch(&mut self, exit: &mut Exit<'_, '_>) -> Result<Reply, Refusal> {
        match exit.code() {
            ExitCode::READ_DR7 => Ok(self.read_dr7(exit)),
            ExitCode::WRITE_DR7 => Ok(self.write_dr7(exit)),
            ExitCode::RDTSC => Ok(self.rdtsc(exit)),
            ExitCode::RDTSCP => Ok(self.rdtscp(exit)),
            ExitCode::RDPMC => Err(super::instruction::GENERAL_PROTECTION),
            ExitCode::CPUID => Ok(super::instruction::cpuid(exit)),
            ExitCode::IOIO => self.ioio(exit),
            ExitCode::MSR => super::instruction::msr(exit),
            ExitCode::VMMCALL => Ok(Reply::default().with(GhcbField::RAX, KVM_ENOSYS.wrapping_neg())),
            // Caches are coherent here, and MONITOR and MWAIT may return at once.
            ExitCode::INVD | ExitCode::WBINVD | ExitCode::MONITOR | ExitCode::MWAIT => Ok(Reply::default()),
            ExitCode::HLT => Ok(Reply::action(Action::Halted)),
            ExitCode::MMIO_READ => self.mmio_read(exit),
            ExitCode::MMIO_WRITE => self.mmio_write(exit),
            ExitCode::NMI_COMPLETE => Ok(Reply::default()),
            ExitCode::AP_RESET_HOLD => {
                self.vcpus[exit.vcpu].reset_hold = Some(ResetHold::Exit { ghcb_gpa: exit.ghcb_gpa });
                Ok(Reply::action(Action::ResetHold))
            }
            ExitCode::AP_JUMP_TABLE => self.ap_jump_table(exit),
            ExitCode::PAGE_STATE_CHANGE => self.page_state_change(exit),
            ExitCode::GUEST_REQUEST => self.guest_request(exit),
            ExitCode::EXTENDED_GUEST_REQUEST => self.extended_guest_request(exit),
            ExitCode::AP_CREATION if self.config.features.ap_creation() => self.ap_creation(exit),
            ExitCode::APIC_ID_LIST if self.config.features.apic_id_list() => self.apic_id_list(exit),
            ExitCode::HYPERVISOR_FEATURES => Ok(Reply::info2(self.config.features.into())),
            ExitCode::TERMINATION_REQUEST => Ok(Reply::action(Action::Terminated(requested(exit.info1())))),
            ExitCode::UNSUPPORTED_EVENT => {
                let event = Termination::UnsupportedEvent { exit_code: exit.info1(), info: exit.info2() };
                Ok(Reply::action(Action::Terminated(event)))
            }
            // Restricted injection, several VMPLs and whatever a feature that is not advertised would allow.
            _ => Err(MalformedInput::INVALID_EVENT.into()),
        }
    }

    /// Sets (`SW_EXITINFO1` 0) or gets (1) the address of the AP jump table, which means nothing to the hypervisor.
    fn ap_jump_table(&mut self, exit: &Exit<'_, '_>) -> Result<Reply, Refusal> {
        match exit.info1() {
            0 => {
                self.ap_jump_table = exit.info2();
                Ok(Reply::default())
            }
            1 => Ok(Reply::info2(self.ap_jump_table)),
            _ => Err(MalformedInput::INVALID_INPUT.into()),
        }
    }

    /// Writes the reply into the GHCB: the fields, the scratch area, and last the valid bitmap, which marks what was
    /// written and nothing else.
    fn write_back(&self, ghcb_gpa: u64, reply: &Reply, env: &mut Env<'_>) {
        // The exit itself may have made the page private.
        if !self.reachable(ghcb_gpa, size_of::<Ghcb>(), env) {
            return;
        }
        let infos = [(GhcbField::SW_EXIT_INFO_1, reply.info1), (GhcbField::SW_EXIT_INFO_2, reply.info2)];
        let mut marked = Ghcb::new_zeroed();
        let mut writes = Vec::new();
        for (field, value) in reply.registers.iter().copied().chain(infos) {
            marked.set_valid(field);
            writes.push((ghcb_gpa + field.offset() as u64, value.to_le_bytes().to_vec()));
        }
        if let Some((gpa, data)) = &reply.scratch
            && self.reachable(*gpa, data.len(), env)
        {
            writes.push((*gpa, data.clone()));
        }
        let bitmap = ghcb_gpa + core::mem::offset_of!(Ghcb, valid_bitmap) as u64;
        writes.push((bitmap, marked.valid_bitmap.to_vec()));
        for (gpa, data) in writes {
            if env.memory.write(gpa, &data).is_err() {
                self.violation(gpa, Violation::OutOfRange, env);
            }
        }
    }
}

/// `SW_EXITINFO1` of a termination request: reason code set in 3:0, reason code in 11:4.
fn requested(info1: u64) -> Termination {
    let reason = TerminationReason { set: (info1 & 0xf) as u8, code: (info1 >> 4 & 0xff) as u8 };
    Termination::Requested(reason)
}

/// The fields that an exit needs besides `SW_EXITCODE`, `SW_EXITINFO1` and `SW_EXITINFO2`.
fn required_fields(exit: &Exit<'_, '_>) -> &'static [GhcbField] {
    const STRING: u64 = 1 << 2;
    const IN: u64 = 1 << 0;
    const XSTATE: u32 = 0xd;
    let info1 = exit.info1();
    match exit.code() {
        ExitCode::WRITE_DR7 => &[GhcbField::RAX],
        ExitCode::RDPMC => &[GhcbField::RCX],
        ExitCode::CPUID if low32(exit.ghcb.rax.get()) == XSTATE => {
            &[GhcbField::RAX, GhcbField::RCX, GhcbField::XCR0]
        }
        ExitCode::CPUID | ExitCode::MWAIT => &[GhcbField::RAX, GhcbField::RCX],
        ExitCode::IOIO if info1 & STRING != 0 => &[GhcbField::SW_SCRATCH],
        ExitCode::IOIO if info1 & IN == 0 => &[GhcbField::RAX],
        ExitCode::MSR if info1 == 0 => &[GhcbField::RCX],
        ExitCode::MSR => &[GhcbField::RCX, GhcbField::RAX, GhcbField::RDX],
        ExitCode::VMMCALL => &[GhcbField::RAX, GhcbField::CPL],
        ExitCode::MONITOR => &[GhcbField::RAX, GhcbField::RCX, GhcbField::RDX],
        ExitCode::MMIO_READ | ExitCode::MMIO_WRITE | ExitCode::PAGE_STATE_CHANGE => &[GhcbField::SW_SCRATCH],
        ExitCode::AP_CREATION if !super::ap::is_destroy(info1) => &[GhcbField::RAX],
        ExitCode::APIC_ID_LIST => &[GhcbField::RAX],
        _ => &[],
    }
}

#[cfg(test)]
#[path = "nae_tests.rs"]
mod tests;
