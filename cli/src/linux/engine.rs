//! What executes a Linux guest.

use std::fmt;

use tsmsim_vmm::{
    cc::{boot, boot_td, linux::kvm::KvmLinux},
    engine::{EngineError, Speed, kvm},
};

use crate::{
    args::{EngineChoice, Tee},
    failure::Failure,
};

/// The C-bit of the real chips, which QEMU can have.
const C_BIT: u8 = 51;

/// An engine, as it was chosen or found to be best.
pub(crate) enum Engine {
    /// QEMU's TCG.
    Qemu,
    /// KVM.
    Kvm {
        /// What guests it makes.
        linux: Box<KvmLinux>,
        /// Where an SNP guest's C-bit is.
        c_bit: u8,
    },
}

impl Engine {
    /// The engine for a choice. `auto` takes KVM where it runs guests natively, and says why if it does not.
    pub(crate) fn new(choice: EngineChoice, tee: Tee) -> Result<Self, Failure> {
        match choice {
            EngineChoice::Qemu => Ok(Self::Qemu),
            EngineChoice::Auto if tee == Tee::Cove => Ok(Self::Qemu),
            EngineChoice::Kvm => Ok(Self::kvm(tee)?),
            EngineChoice::Auto => match reason_against_kvm(&kvm::probe()) {
                Some(reason) => {
                    eprintln!("tsmsim: the engine is QEMU: {reason}");
                    Ok(Self::Qemu)
                }
                None => Self::kvm(tee).or_else(|error| {
                    eprintln!("tsmsim: the engine is QEMU: {error}");
                    Ok(Self::Qemu)
                }),
            },
        }
    }

    fn kvm(tee: Tee) -> Result<Self, EngineError> {
        let c_bit = match tee {
            Tee::Snp => boot::c_bit()?,
            Tee::Tdx => boot_td::can_run().map(|()| C_BIT)?,
            Tee::Cove => return Err(no_riscv()),
        };
        let linux = KvmLinux::new()?;
        if linux.is_slow() {
            eprintln!(
                "tsmsim: this KVM emulates guests' ring 0 in software: give it a small kernel (`cargo xtask kernel` builds \
                 one), as a distribution's takes ten minutes and more"
            );
        }
        Ok(Self::Kvm { linux: Box::new(linux), c_bit })
    }

    /// Where an SNP guest's C-bit is.
    pub(crate) const fn c_bit(&self) -> u8 {
        match self {
            Self::Qemu => C_BIT,
            Self::Kvm { c_bit, .. } => *c_bit,
        }
    }
}

impl fmt::Display for Engine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Qemu => "QEMU's TCG",
            Self::Kvm { .. } => "KVM",
        })
    }
}

fn no_riscv() -> EngineError {
    let text = "KVM runs guests of the machine's own kind, and a CoVE guest is a RISC-V one: leave --engine out, or give qemu";
    EngineError::Missing(text.to_owned())
}

/// Why `auto` does not take this KVM.
fn reason_against_kvm(probe: &kvm::KvmProbe) -> Option<String> {
    match probe {
        kvm::KvmProbe::Present(facts) if facts.speed == Speed::Native => None,
        other => Some(other.to_string()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tsmsim_vmm::engine::kvm::{KvmFacts, KvmProbe};

    fn present(speed: Speed) -> KvmProbe {
        let instructions_per_second = 850_000;
        KvmProbe::Present(KvmFacts { speed, instructions_per_second, physical_bits: 48, c_bit: Some(47) })
    }

    #[test]
    fn only_a_fast_kvm_is_taken_unasked() {
        assert_eq!(reason_against_kvm(&present(Speed::Native)), None);
        let slow = reason_against_kvm(&present(Speed::SlowEmulated)).unwrap();
        assert!(slow.contains("software"), "{slow}");
        let missing = KvmProbe::Missing { reason: "there is none".to_owned() };
        assert_eq!(reason_against_kvm(&missing).as_deref(), Some("there is none"));
    }
}
