//! Where a stock kernel has the instructions that only a confidential processor executes, or answers otherwise.
//!
//! A stock kernel has no symbols. So instructions are found by their bytes in the executable segments, and each find is
//! confirmed by a disassembler: decoding from the beginning of a function before it has to arrive at it. Functions begin at
//! multiples of 16 behind padding (`int3` or `nop`), as compilers lay out a kernel (`CONFIG_FUNCTION_ALIGNMENT_16B`).
//! Accesses to an MSR are those that follow the instruction which loads its number.

use iced_x86::{Code, Decoder, DecoderOptions, Instruction};
use memchr::memmem;
use tsmsim_abi::snp::msr::{MSR_GHCB, MSR_SEV_STATUS};

use crate::{
    engine::qemu::{HaltStub, Watched},
    loader::{linux::image::Code as KernelCode, patch::PatchedInstruction},
};

/// Bytes before a find in which a function's beginning is looked for.
const LOOK_BACK: usize = 32 << 10;
/// How many beginnings are tried.
const ATTEMPTS: usize = 6;
/// Bytes behind the load of a number in which the instruction that uses it is looked for.
const LOOK_AHEAD: usize = 0x100;
/// Functions begin at multiples of this.
const ALIGNMENT: u64 = 16;
/// The CPUID function with what SEV the processor has, and where the C-bit is.
pub(super) const CPUID_SEV: u32 = 0x8000_001f;

/// An instruction of the kernel's.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Site {
    /// Its virtual address.
    pub address: u64,
    /// Its guest-physical address: where it is executed before the kernel has its own page tables.
    pub gpa: u64,
    /// What it is.
    pub instruction: Watched,
}

/// What was found, by ascending address, each place once.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Sites {
    /// Instructions.
    pub found: Vec<Site>,
    /// Bytes that look like one and are not confirmed.
    pub unconfirmed: Vec<Site>,
}

impl Sites {
    fn sort(mut self) -> Self {
        for list in [&mut self.found, &mut self.unconfirmed] {
            list.sort_unstable();
            list.dedup();
        }
        self
    }

    /// How many instructions of a kind were found.
    #[must_use]
    pub fn count(&self, instruction: Watched) -> usize {
        self.found.iter().filter(|site| site.instruction == instruction).count()
    }
}

/// What an SNP guest needs: VMGEXIT, PVALIDATE, RMPADJUST; the accesses to the GHCB and status MSRs; the CPUID that asks
/// for SEV.
#[must_use]
pub fn find_snp(code: &[KernelCode<'_>]) -> Sites {
    let mut sites = Sites::default();
    for part in code {
        for instruction in
            [PatchedInstruction::Vmgexit, PatchedInstruction::Pvalidate, PatchedInstruction::Rmpadjust]
        {
            part.find(Watched::Confidential(instruction), &mut sites);
        }
        for number in [MSR_GHCB, MSR_SEV_STATUS] {
            part.find_behind(number, &[Watched::Rdmsr, Watched::Wrmsr], &mut sites.found);
        }
        part.find_behind(CPUID_SEV, &[Watched::Cpuid], &mut sites.found);
        part.find_wrmsr_before_vmgexit(&mut sites.found);
    }
    sites.sort()
}

/// What a TD needs: TDCALL, and every CPUID, as which one asks for leaf 21H cannot be seen.
#[must_use]
pub fn find_tdx(code: &[KernelCode<'_>]) -> Sites {
    let mut sites = Sites::default();
    for part in code {
        part.find(Watched::Confidential(PatchedInstruction::Tdcall), &mut sites);
        part.find(Watched::Cpuid, &mut sites);
    }
    sites.sort()
}

/// The kernel's own `sti; hlt` and `cli`, each followed by a return: `native_safe_halt`, `native_irq_disable`.
#[must_use]
pub fn find_halt(code: &[KernelCode<'_>]) -> Option<HaltStub> {
    /// `ret`, and the jump to a thunk that returns.
    const RETURNS: [u8; 2] = [0xc3, 0xe9];
    const ENDBR64: [u8; 4] = [0xf3, 0x0f, 0x1e, 0xfa];
    let address = |part: &KernelCode<'_>, offset: usize| Some(part.vaddr + u64::try_from(offset).ok()?);
    let first = |pattern: &[u8], skip: usize| {
        code.iter().find_map(|part| {
            let candidates = memmem::find_iter(part.bytes, pattern);
            let mut offsets = candidates.map(|at| at + skip).filter(|&at| part.proves(at));
            offsets.next().and_then(|at| address(part, at))
        })
    };
    let find = |body: &[u8], before: &[u8]| {
        RETURNS.into_iter().find_map(|ret| first(&[before, body, &[ret]].concat(), before.len()))
    };
    Some(HaltStub { sti_hlt: find(&[0xfb, 0xf4], &[])?, cli: find(&[0xfa], &ENDBR64)? })
}

impl KernelCode<'_> {
    fn site(&self, offset: usize, instruction: Watched) -> Option<Site> {
        let offset = u64::try_from(offset).ok()?;
        let address = self.vaddr.checked_add(offset)?;
        Some(Site { address, gpa: self.paddr.checked_add(offset)?, instruction })
    }

    /// Finds an instruction by its bytes.
    fn find(&self, instruction: Watched, sites: &mut Sites) {
        for offset in memmem::find_iter(self.bytes, instruction.bytes()) {
            let list = if self.proves(offset) { &mut sites.found } else { &mut sites.unconfirmed };
            list.extend(self.site(offset, instruction));
        }
    }

    /// Whether decoding from the beginning of a function arrives at `offset`.
    fn proves(&self, offset: usize) -> bool {
        let lowest = offset.saturating_sub(LOOK_BACK);
        let starts = (lowest..=offset).rev().filter(|&start| self.begins_function(start));
        starts.take(ATTEMPTS).any(|start| {
            let mut decoded = self.decode(start, offset - start + 1);
            decoded.find(|(at, _)| *at >= offset).is_some_and(|(at, _)| at == offset)
        })
    }

    /// Whether a function may begin here.
    fn begins_function(&self, offset: usize) -> bool {
        const PADDING: [u8; 2] = [0xcc, 0x90];
        let aligned = u64::try_from(offset).is_ok_and(|o| (self.vaddr + o).is_multiple_of(ALIGNMENT));
        aligned && offset.checked_sub(1).is_none_or(|before| PADDING.contains(&self.bytes[before]))
    }

    /// Instructions from `start` on, at most `length` bytes of beginnings, with their offsets; ends at what does not decode.
    fn decode(&self, start: usize, length: usize) -> impl Iterator<Item = (usize, Instruction)> + '_ {
        /// The longest instruction has 15 bytes.
        const LONGEST: usize = 15;
        let end = start.saturating_add(length);
        let bytes = self.bytes.get(start..end.saturating_add(LONGEST).min(self.bytes.len())).unwrap_or(&[]);
        let mut decoder = Decoder::new(64, bytes, DecoderOptions::NONE);
        std::iter::from_fn(move || {
            let at = start + decoder.position();
            if at >= end || !decoder.can_decode() {
                return None;
            }
            let instruction = decoder.decode();
            (!instruction.is_invalid()).then_some((at, instruction))
        })
    }

    /// Finds the instructions that may use a number which `mov r32, imm32` loads.
    fn find_behind(&self, number: u32, instructions: &[Watched], found: &mut Vec<Site>) {
        /// `mov eax, imm32` to `mov edi, imm32`, also with a prefix for the upper registers.
        const LOADS: std::ops::RangeInclusive<u8> = 0xb8..=0xbf;
        for place in memmem::find_iter(self.bytes, &number.to_le_bytes()) {
            let Some(load) = place.checked_sub(1) else { continue };
            if !LOADS.contains(&self.bytes[load]) {
                continue;
            }
            for (at, decoded) in self.decode(load, LOOK_AHEAD) {
                if let Some(watched) = instructions.iter().find(|watched| is(**watched, &decoded)) {
                    found.extend(self.site(at, *watched));
                }
                if matches!(decoded.code(), Code::Retnq | Code::Int3) {
                    break;
                }
            }
        }
    }

    /// Every VMGEXIT has the write of the GHCB MSR right before it, wherever its number was loaded.
    fn find_wrmsr_before_vmgexit(&self, found: &mut Vec<Site>) {
        let vmgexit = Watched::Confidential(PatchedInstruction::Vmgexit);
        let pair = [Watched::Wrmsr.bytes(), vmgexit.bytes()].concat();
        let offsets = memmem::find_iter(self.bytes, &pair).filter(|&offset| self.proves(offset));
        found.extend(offsets.filter_map(|offset| self.site(offset, Watched::Wrmsr)));
    }
}

fn is(watched: Watched, decoded: &Instruction) -> bool {
    let code = decoded.code();
    match watched {
        Watched::Cpuid => code == Code::Cpuid,
        Watched::Rdmsr => code == Code::Rdmsr,
        Watched::Wrmsr => code == Code::Wrmsr,
        Watched::Confidential(_) => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rstest::rstest;

    const BASE: u64 = 0xffff_ffff_8100_0000;
    const VMGEXIT: Watched = Watched::Confidential(PatchedInstruction::Vmgexit);

    fn code(bytes: &[u8]) -> KernelCode<'_> {
        KernelCode { vaddr: BASE, paddr: 0x100_0000, bytes }
    }

    /// 16 bytes of another function and its padding, then these.
    fn second_function(bytes: &[u8]) -> Vec<u8> {
        let mut all = vec![0xc3];
        all.resize(16, 0xcc);
        all.extend(bytes);
        all.resize(all.len() + 16, 0xcc);
        all
    }

    fn offsets(sites: &[Site], instruction: Watched) -> Vec<u64> {
        let of_kind = sites.iter().filter(|site| site.instruction == instruction);
        of_kind.map(|site| site.address - BASE).collect()
    }

    #[test]
    fn a_request_by_msr_is_found_whole() {
        let bytes = second_function(&[
            0xb9, 0x30, 0x01, 0x01, 0xc0, // mov ecx, 0xc0010130
            0x0f, 0x30, // wrmsr
            0xf3, 0x0f, 0x01, 0xd9, // vmgexit
            0x0f, 0x32, // rdmsr
            0xc3, // ret
            0x0f, 0x32, // rdmsr: another function's
        ]);
        let sites = find_snp(&[code(&bytes)]);
        assert_eq!(offsets(&sites.found, Watched::Wrmsr), [16 + 5]);
        assert_eq!(offsets(&sites.found, VMGEXIT), [16 + 7]);
        assert_eq!(offsets(&sites.found, Watched::Rdmsr), [16 + 11]);
        assert!(sites.unconfirmed.is_empty());
        assert_eq!(sites.found[0].gpa, 0x100_0000 + 16 + 5);
        assert_eq!(sites.count(VMGEXIT), 1);
    }

    #[test]
    fn the_write_before_vmgexit_counts_wherever_its_number_came_from() {
        let bytes = second_function(&[
            0x89, 0xf9, // mov ecx, edi
            0x0f, 0x30, // wrmsr
            0xf3, 0x0f, 0x01, 0xd9, // vmgexit
            0xc3, // ret
        ]);
        assert_eq!(offsets(&find_snp(&[code(&bytes)]).found, Watched::Wrmsr), [16 + 2]);
    }

    #[test]
    fn what_is_part_of_another_instruction_is_not_confirmed() {
        let bytes = second_function(&[
            0x48, 0xb8, 0xf3, 0x0f, 0x01, 0xd9, 0xf2, 0x0f, 0x01, 0xff, // mov rax, 0xff010ff2d9010ff3
            0xc3, // ret
        ]);
        let sites = find_snp(&[code(&bytes)]);
        assert!(sites.found.is_empty());
        assert_eq!(offsets(&sites.unconfirmed, VMGEXIT), [16 + 2]);
        assert_eq!(sites.unconfirmed.len(), 2);
    }

    #[rstest]
    #[case::sev(&[0xb8, 0x1f, 0, 0, 0x80, 0x31, 0xc9, 0x0f, 0xa2, 0xc3], &[7])]
    #[case::another_leaf(&[0xb8, 0x1e, 0, 0, 0x80, 0x31, 0xc9, 0x0f, 0xa2, 0xc3], &[])]
    #[case::not_loaded(&[0x3d, 0x1f, 0, 0, 0x80, 0x31, 0xc9, 0x0f, 0xa2, 0xc3], &[])]
    fn the_cpuid_that_asks_for_sev(#[case] bytes: &[u8], #[case] expected: &[u64]) {
        assert_eq!(offsets(&find_snp(&[code(bytes)]).found, Watched::Cpuid), expected);
    }

    #[test]
    fn a_td_has_tdcall_and_every_cpuid() {
        let bytes = second_function(&[0x66, 0x0f, 0x01, 0xcc, 0x0f, 0xa2, 0xc3]);
        let sites = find_tdx(&[code(&bytes)]);
        assert_eq!(offsets(&sites.found, Watched::Cpuid), [20]);
        assert_eq!(sites.count(Watched::Confidential(PatchedInstruction::Tdcall)), 1);
    }

    #[test]
    fn halting_needs_both_functions() {
        let halt = second_function(&[0xfb, 0xf4, 0xc3]);
        assert_eq!(find_halt(&[code(&halt)]), None);
        let mut both = second_function(&[0xfb, 0xf4, 0xe9, 0, 0, 0, 0]);
        both.resize(48, 0xcc);
        both.extend([0xf3, 0x0f, 0x1e, 0xfa, 0xfa, 0xc3]);
        let stub = find_halt(&[code(&both)]).unwrap();
        assert_eq!((stub.sti_hlt - BASE, stub.cli - BASE), (16, 52));
    }

    #[rstest]
    #[case::nothing(&[])]
    #[case::half_an_instruction(&[0xf3, 0x0f, 0x01])]
    #[case::a_number_at_the_very_beginning(&[0x30, 0x01, 0x01, 0xc0])]
    fn odd_ends(#[case] bytes: &[u8]) {
        assert_eq!(find_snp(&[code(bytes)]), Sites::default());
        assert_eq!(find_tdx(&[code(bytes)]), Sites::default());
    }

    proptest::proptest! {
        #[test]
        fn any_bytes_are_searched(bytes in proptest::collection::vec(
            proptest::prelude::prop_oneof![
                proptest::prelude::any::<u8>(),
                proptest::prelude::prop::sample::select(vec![0x0f, 0x01, 0xf3, 0xd9, 0xa2, 0x30, 0xcc, 0xb9, 0xc0]),
            ], 0..400)) {
            let sites = find_snp(&[code(&bytes)]);
            for site in sites.found {
                let offset = usize::try_from(site.address - BASE).unwrap();
                proptest::prop_assert!(bytes[offset..].starts_with(site.instruction.bytes()) ||
                    // Prefixes may stand before what is decoded.
                    !matches!(site.instruction, Watched::Confidential(_)));
            }
        }
    }
}
