//! What this host's `/dev/kvm` is good for.

use std::fmt;
use std::os::unix::fs::MetadataExt;
use std::sync::OnceLock;
use std::time::{Duration, Instant};

use super::{KvmConfig, KvmVm};
use crate::engine::cpuid::CpuidTable;
use crate::engine::{Engine, EngineError, Exit, InitialState, Speed, choose_c_bit};
use crate::loader::boot;
use crate::memory::GuestRam;

const DEVICE: &str = "/dev/kvm";

/// A KVM that works.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KvmFacts {
    /// Whether the processor runs ring 0, or KVM's instruction emulator does.
    pub speed: Speed,
    /// Measured, with a loop of two instructions in ring 0.
    pub instructions_per_second: u64,
    /// Bits of a guest-physical address that can be mapped.
    pub physical_bits: u8,
    /// The C-bit for guests here.
    pub c_bit: Option<u8>,
}

/// What [`probe`] found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum KvmProbe {
    /// There is no `/dev/kvm`, or nothing behind it.
    Missing {
        /// What that means, and what would help.
        reason: String,
    },
    /// This user may not open it.
    NotPermitted {
        /// Whom it belongs to, and what would help.
        reason: String,
    },
    /// It lacks what is needed here, or fails.
    Unusable {
        /// What is wrong.
        reason: String,
    },
    /// It works.
    Present(KvmFacts),
}

impl fmt::Display for KvmProbe {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Missing { reason } | Self::NotPermitted { reason } | Self::Unusable { reason } => {
                formatter.write_str(reason)
            }
            Self::Present(facts) => {
                let kind = match facts.speed {
                    Speed::Native | Speed::Translated => "runs guests natively",
                    Speed::SlowEmulated => "emulates guests' ring 0 in software",
                };
                let speed = facts.instructions_per_second;
                write!(
                    formatter,
                    "{DEVICE} {kind} ({}.{:02} million instructions/s), {} bits of guest-physical address",
                    speed / 1_000_000,
                    speed % 1_000_000 / 10_000,
                    facts.physical_bits
                )
            }
        }
    }
}

/// Looks at `/dev/kvm`: whether it is there, may be used, can do what is needed, and how fast it is.
///
/// Takes a few milliseconds the first time, as it runs a short loop in a scratch machine; the answer is kept for the
/// life of the process if the KVM works.
pub fn probe() -> KvmProbe {
    match facts() {
        Ok(facts) => KvmProbe::Present(facts.clone()),
        Err(EngineError::Missing(reason)) => KvmProbe::Missing { reason },
        Err(EngineError::NotPermitted(reason)) => KvmProbe::NotPermitted { reason },
        Err(error) => KvmProbe::Unusable { reason: error.to_string() },
    }
}

/// As [`probe`], with the error for those who need the engine.
pub(super) fn facts() -> Result<&'static KvmFacts, EngineError> {
    static FACTS: OnceLock<KvmFacts> = OnceLock::new();
    if let Some(facts) = FACTS.get() {
        return Ok(facts);
    }
    let measured = measure()?;
    Ok(FACTS.get_or_init(|| measured))
}

/// Where the scratch machine has its loop and its page tables.
const LOOP_GPA: u64 = 0x8000;
const PAGE_TABLES_GPA: u64 = 0x1000;

/// The loop: RCX turns of two instructions between two exits.
const LOOP: [u8; 9] = [
    0xe6, 0x80, // out 0x80, al      the clock starts
    0xff, 0xc9, // dec ecx           1:
    0x75, 0xfc, // jnz 1b
    0xe6, 0x80, // out 0x80, al      the clock stops
    0xf4, //       hlt
];

/// Turns of the first, short loop: 5 ms where ring 0 is interpreted.
const SHORT: u64 = 2_000;
/// Turns of the second loop, run only where the first was fast.
const LONG: u64 = 1_000_000;
/// Emulation reaches a million instructions per second or two; a processor hundreds, less the cost of one exit.
const SLOW_BELOW: u64 = 10_000_000;

fn measure() -> Result<KvmFacts, EngineError> {
    let ram = GuestRam::new(0x10_000).map_err(|error| EngineError::Configuration(error.to_string()))?;
    boot::write_identity_tables(&ram, PAGE_TABLES_GPA)
        .map_err(|error| EngineError::Configuration(error.to_string()))?;
    ram.write(LOOP_GPA, &LOOP).map_err(|error| EngineError::Configuration(error.to_string()))?;
    // The speed in its description is not looked at.
    let vm = KvmVm::with_speed(&KvmConfig::default(), &ram, Speed::Native)?;
    let mut vcpu = vm.create_vcpu(&CpuidTable::new())?;
    // The best of two, as another process may have had the processor meanwhile.
    let mut best = instructions_per_second(&mut vcpu, SHORT)?.max(instructions_per_second(&mut vcpu, SHORT)?);
    let slow = best < SLOW_BELOW;
    if !slow {
        best = best.max(instructions_per_second(&mut vcpu, LONG)?);
    }
    let physical_bits = vm.info().physical_bits;
    Ok(KvmFacts {
        speed: if slow { Speed::SlowEmulated } else { Speed::Native },
        instructions_per_second: best,
        physical_bits,
        c_bit: choose_c_bit(physical_bits),
    })
}

fn instructions_per_second(vcpu: &mut impl Engine, turns: u64) -> Result<u64, EngineError> {
    let deadline = Instant::now() + Duration::from_secs(5);
    let mut state = InitialState::long_mode(LOOP_GPA, PAGE_TABLES_GPA);
    state.registers.rcx = turns;
    vcpu.set_initial_state(&state)?;
    expect_out(vcpu, deadline)?;
    let start = Instant::now();
    expect_out(vcpu, deadline)?;
    let nanoseconds = start.elapsed().as_nanos().max(1);
    Ok(u64::try_from(u128::from(turns) * 2 * 1_000_000_000 / nanoseconds).unwrap_or(u64::MAX))
}

fn expect_out(vcpu: &mut impl Engine, deadline: Instant) -> Result<(), EngineError> {
    match vcpu.run(deadline)? {
        Exit::IoOut { port: 0x80, .. } => Ok(()),
        other => Err(EngineError::UnexpectedExit(format!("{other:?} in the loop that measures this KVM"))),
    }
}

/// Why `/dev/kvm` did not open, and what would help.
pub(super) fn explain_open_error(errno: i32) -> EngineError {
    match errno {
        libc::ENOENT => EngineError::Missing(format!(
            "{DEVICE} does not exist: this kernel has no KVM, or its module is not loaded (modprobe kvm_amd or \
             kvm_intel), or virtualization is off in the firmware, or a container was started without \
             --device {DEVICE}"
        )),
        libc::ENODEV | libc::ENXIO => {
            EngineError::Missing(format!("{DEVICE} exists, but there is no KVM behind it"))
        }
        libc::EACCES | libc::EPERM => {
            let owner =
                std::fs::metadata(DEVICE).ok().map(|metadata| (metadata.gid(), metadata.mode() & 0o777));
            let groups = std::fs::read_to_string("/etc/group").unwrap_or_default();
            EngineError::NotPermitted(not_permitted(owner, &groups))
        }
        errno => EngineError::Host { operation: "opening /dev/kvm", errno },
    }
}

/// `owner` is the group and the mode of the device; `groups` the text of `/etc/group`.
fn not_permitted(owner: Option<(u32, u32)>, groups: &str) -> String {
    let Some((gid, mode)) = owner else {
        return format!("this user may not open {DEVICE}");
    };
    if mode & 0o060 != 0o060 {
        return format!(
            "this user may not open {DEVICE}: only its owner may (mode {mode:04o}); run as root, or change the mode"
        );
    }
    let name = groups.lines().find_map(|line| {
        let mut fields = line.split(':');
        let name = fields.next()?;
        (fields.nth(1)?.parse() == Ok(gid)).then_some(name)
    });
    let group = name.map_or_else(|| format!("the group with number {gid}"), |name| format!("group {name}"));
    format!(
        "this user may not open {DEVICE}: it belongs to {group} (mode {mode:04o}); join that group and log in again, \
         or give a container the device with --device {DEVICE} and the group with --group-add {gid}"
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use rstest::rstest;

    #[rstest]
    #[case::named(Some((104, 0o660)), "root:x:0:\nkvm:x:104:alice\n", "group kvm (mode 0660)")]
    #[case::unnamed(Some((104, 0o660)), "root:x:0:\n", "the group with number 104 (mode 0660)")]
    #[case::strange_file(Some((104, 0o660)), "::\n:\n\nkvm\nkvm:x\nkvm:x:no:", "number 104")]
    #[case::owner_only(Some((0, 0o600)), "root:x:0:\n", "only its owner may (mode 0600)")]
    #[case::gone(None, "", "this user may not open /dev/kvm")]
    fn a_refusal_names_the_group(
        #[case] owner: Option<(u32, u32)>,
        #[case] groups: &str,
        #[case] says: &str,
    ) {
        let message = not_permitted(owner, groups);
        assert!(message.contains(says), "{message}");
    }

    #[test]
    fn errors_are_sorted() {
        assert!(matches!(explain_open_error(libc::ENOENT), EngineError::Missing(_)));
        assert!(matches!(explain_open_error(libc::ENXIO), EngineError::Missing(_)));
        assert!(matches!(explain_open_error(libc::EACCES), EngineError::NotPermitted(_)));
        assert!(matches!(explain_open_error(libc::EMFILE), EngineError::Host { errno: libc::EMFILE, .. }));
    }

    #[test]
    fn a_probe_reads_as_one_line() {
        let facts = KvmFacts {
            speed: Speed::SlowEmulated,
            instructions_per_second: 853_210,
            physical_bits: 48,
            c_bit: Some(47),
        };
        assert_eq!(
            KvmProbe::Present(facts).to_string(),
            "/dev/kvm emulates guests' ring 0 in software (0.85 million instructions/s), 48 bits of guest-physical \
             address"
        );
    }
}
