//! General registers of a VCPU.

use std::ops::{Index, IndexMut};

/// A general register, by its encoding.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
#[expect(missing_docs, reason = "the names say it all")]
pub enum Gpr {
    Rax,
    Rcx,
    Rdx,
    Rbx,
    Rsp,
    Rbp,
    Rsi,
    Rdi,
    R8,
    R9,
    R10,
    R11,
    R12,
    R13,
    R14,
    R15,
}

/// The sixteen general registers, in the order of their encoding.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Registers(pub [u64; 16]);

impl Index<Gpr> for Registers {
    type Output = u64;

    fn index(&self, register: Gpr) -> &u64 {
        &self.0[register as usize]
    }
}

impl IndexMut<Gpr> for Registers {
    fn index_mut(&mut self, register: Gpr) -> &mut u64 {
        &mut self.0[register as usize]
    }
}

impl Registers {
    /// The same with a register set.
    #[must_use]
    pub fn with(mut self, register: Gpr, value: u64) -> Self {
        self[register] = value;
        self
    }

    /// These registers where the mask has their bit, those of `other` where not.
    #[must_use]
    pub fn select(&self, mask: u16, other: &Self) -> Self {
        let mut selected = *other;
        for (index, (to, from)) in selected.0.iter_mut().zip(self.0).enumerate() {
            if mask >> index & 1 == 1 {
                *to = from;
            }
        }
        selected
    }
}
