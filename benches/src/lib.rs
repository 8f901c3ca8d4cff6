//! What the benchmarks share: a machine whose guest is played by hand, so that only the host's part is timed.
//!
//! `cargo bench -p tsmsim-benches` runs them all, `cargo bench -p tsmsim-benches --bench NAME [-- FILTER]` some of them. In
//! `cargo test --all-targets` each runs once, to see that it runs; no time ever fails a test.
//!
//! | benchmark | what it times |
//! |---|---|
//! | `ratios` | SNP: a report request and the measurement of a page; TDX: a quote, and judging one; CoVE: evidence: each against the bare cryptography or another library, interleaved in one run |
//! | `snp_report` | a report request: dispatch alone, and the whole way of a guest; the bare signature |
//! | `snp_launch` | the launch digest, `SNP_LAUNCH_UPDATE`, the launch of a guest; the bare hash |
//! | `snp_evidence` | keys and certificates of a platform, reports per product line, judging evidence |
//! | `cove_ecall` | an `ecall` of a TVM on the interpreter and on QEMU, beside the simulator alone; passed over where there is no guest or no QEMU |
//! | `kvm_exit` | exits of a virtual machine; passed over where there is no KVM |
//! | `userland` | a report through configfs and through `/dev/sev-guest` of `tsmsim run`, evidence of CoVE through configfs, beside the simulator alone; starting; passed over where there is no FUSE |
//! | `linux_boot` | a stock kernel as a guest of `tsmsim boot`, beside plain QEMU; many reports in one guest; passed over where there is no kernel |

pub mod cove;
pub mod tdx;

use aws_lc_rs::{
    rand::SystemRandom,
    signature::{
        ECDSA_P256_SHA256_FIXED_SIGNING, ECDSA_P384_SHA384_FIXED_SIGNING, EcdsaKeyPair, EcdsaSigningAlgorithm,
    },
};
use tsmsim_abi::snp::{
    PAGE_SIZE,
    ghcb::{ExitCode, Ghcb, GhcbField},
    message::MessageType,
    msr::GhcbMsr,
    pages::SecretsPage,
    payload::{ReportReq, ReportReqFlags},
    policy::GuestPolicy,
    report::SIGNED_SIZE,
    tcb::ProductLine,
};
use tsmsim_keys::{Seed, SignatureMode};
use tsmsim_simulator::snp::{
    firmware::Firmware,
    guest::{GuestLayout, InProcessGuest, World, open, seal},
    host::{HostConfig, Hypervisor, LaunchPlan},
    launch::Page,
    platform::{Platform, PlatformConfig},
};
use zerocopy::{FromZeros, IntoBytes};

/// Guest memory of a [`machine`](ReportMachine), in bytes.
const RAM: usize = 1 << 20;

/// The ways to sign, for divan's arguments.
pub const MODES: [SignatureMode; 2] = [SignatureMode::Randomized, SignatureMode::Deterministic];

/// The product lines, for divan's arguments.
pub const LINES: [ProductLine; 3] = [ProductLine::Milan, ProductLine::Genoa, ProductLine::Turin];

/// A platform of the default seed.
///
/// # Panics
/// If it cannot be built.
#[must_use]
pub fn platform(line: ProductLine, mode: SignatureMode) -> Platform {
    let config = PlatformConfig::new(line).with_signature_mode(mode);
    config.build(&Seed::DEFAULT).expect("a platform of the default seed can be built")
}

/// A guest of no page but its own buffers, on a platform.
///
/// # Panics
/// If it cannot be launched.
#[must_use]
pub fn guest(platform: Platform) -> InProcessGuest {
    let config = HostConfig { ram: std::iter::once(0..RAM as u64).collect(), ..HostConfig::default() };
    let world = World::new(RAM, Seed::DEFAULT);
    InProcessGuest::launch(Firmware::new(platform), config, LaunchPlan::from(GuestPolicy::DEFAULT), world)
        .expect("the guest launches")
}

/// A machine whose guest does nothing but ask for reports.
pub struct ReportMachine {
    hypervisor: Hypervisor,
    world: World,
    layout: GuestLayout,
    /// VMPCK0.
    key: [u8; 32],
    seqno: u64,
    request: Box<Page>,
}

impl ReportMachine {
    /// A machine on this platform.
    ///
    /// # Panics
    /// If it cannot be launched.
    #[must_use]
    pub fn new(platform: Platform) -> Self {
        let (hypervisor, world, layout) = guest(platform).into_parts();
        let mut key = [0; 32];
        let offset = core::mem::offset_of!(SecretsPage, vmpck) as u64;
        world.memory.read(layout.secrets_gpa + offset, &mut key).expect("the secrets page is in memory");
        Self { hypervisor, world, layout, key, seqno: 1, request: Box::new([0; PAGE_SIZE]) }
    }

    /// What the guest does before its VMGEXIT: seals the next `MSG_REPORT_REQ`, and fills request page and GHCB.
    ///
    /// # Panics
    /// Never: the pages are in memory.
    pub fn prepare(&mut self) {
        let mut request = ReportReq::new_zeroed();
        request.report_data[..8].copy_from_slice(&self.seqno.to_le_bytes());
        request.flags.set(ReportReqFlags::new().into());
        let message = (MessageType::REPORT_REQ, 1);
        self.request = seal(&self.key, 0, self.seqno, message, request.as_bytes()).expect("it fits");
        self.seqno += 2;
        let mut ghcb = Ghcb::new_zeroed();
        ghcb.protocol_version.set(2);
        ghcb.sw_exit_code.set(ExitCode::GUEST_REQUEST.0);
        ghcb.sw_exit_info_1.set(self.layout.request_gpa());
        ghcb.sw_exit_info_2.set(self.layout.response_gpa());
        for field in [GhcbField::SW_EXIT_CODE, GhcbField::SW_EXIT_INFO_1, GhcbField::SW_EXIT_INFO_2] {
            ghcb.set_valid(field);
        }
        let memory = &self.world.memory;
        memory.write(self.layout.request_gpa(), &*self.request).expect("it is in memory");
        memory.write(self.layout.ghcb_gpa(), ghcb.as_bytes()).expect("it is in memory");
    }

    /// The timed part: VMGEXIT, hypervisor, firmware, signature, response.
    pub fn vmgexit(&mut self) {
        let (mut env, devices) = self.world.env();
        let msr = GhcbMsr(self.layout.ghcb_gpa());
        let outcome = self.hypervisor.vmgexit(0, msr, &mut env, devices);
        std::hint::black_box(outcome);
    }

    /// The response's payload, to see that there is one.
    ///
    /// # Panics
    /// If the last request got no response that the guest can open.
    #[must_use]
    pub fn response(&self) -> Vec<u8> {
        let mut response = Box::new([0; PAGE_SIZE]);
        self.world.memory.read(self.layout.response_gpa(), &mut *response).expect("it is in memory");
        open(&self.key, &self.request, &response).expect("the response opens")
    }
}

/// The bare signature: over as many bytes as of a report or quote, by the fastest well-kept library.
pub struct BareSignature {
    key: EcdsaKeyPair,
    random: SystemRandom,
    message: Vec<u8>,
}

impl BareSignature {
    /// P-384 with SHA-384 over what is signed of an SNP report, with a key of its own.
    ///
    /// # Panics
    /// If the library fails.
    #[must_use]
    pub fn new() -> Self {
        Self::of(&ECDSA_P384_SHA384_FIXED_SIGNING, SIGNED_SIZE)
    }

    /// P-256 with SHA-256 over what is signed of a quote of version 4, with a key of its own.
    ///
    /// # Panics
    /// If the library fails.
    #[must_use]
    pub fn p256() -> Self {
        Self::of(&ECDSA_P256_SHA256_FIXED_SIGNING, tdx::SIGNED_SIZE)
    }

    fn of(algorithm: &'static EcdsaSigningAlgorithm, size: usize) -> Self {
        let key = EcdsaKeyPair::generate(algorithm).expect("a key can be generated");
        Self { key, random: SystemRandom::new(), message: vec![0x5a; size] }
    }

    /// Signs.
    ///
    /// # Panics
    /// If the library fails.
    pub fn sign(&self) {
        let message = std::hint::black_box(&self.message);
        std::hint::black_box(self.key.sign(&self.random, message).expect("the key signs"));
    }
}

impl Default for BareSignature {
    fn default() -> Self {
        Self::new()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_timed_is_a_whole_report() {
        let mut machine = ReportMachine::new(platform(ProductLine::Milan, SignatureMode::Randomized));
        for _ in 0..2 {
            machine.prepare();
            machine.vmgexit();
            assert_eq!(machine.response()[..8], [0, 0, 0, 0, 0xa0, 4, 0, 0], "STATUS and REPORT_SIZE");
        }
    }
}
