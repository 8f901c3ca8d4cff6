//! Instructions that only an SNP or TDX processor has, turned into port writes that any engine exits on.
//!
//! VMGEXIT is an ordinary VMMCALL to a hypervisor without SEV; PVALIDATE, RMPADJUST and TDCALL are undefined. Each becomes
//! `out imm8, al; nop; nop`, of the same length, with a port of its own, so that dispatch sees
//! [`Exit::IoOut`](crate::engine::Exit::IoOut) at the exact instruction. OUT needs ring 0, or ring 3 with I/O
//! privilege.
//!
//! This has to be done **after** the guest's pages were measured: what a guest measures as is what its author wrote.
//!
//! A byte pattern alone proves nothing; it may be data or the middle of another instruction. So an instruction is
//! patched only if decoding arrives at it, one instruction after the other, from a known start: a function of the symbol
//! table, the beginning of a section of instructions, or, without any section table, the beginning of an executable
//! segment and the entry. Where a byte in between does not decode, nothing behind it counts until the next start.

use iced_x86::{Code, Decoder, DecoderOptions, Instruction};
use thiserror::Error;
use tsmsim_simulator::env::OutOfRange;

use super::elf::ElfImage;
use crate::memory::GuestRam;

/// An instruction that is patched: AMD64 Architecture Programmer's Manual volume 3 (24594), section 4; Intel Software
/// Developer's Manual volume 2 (325383), "TDCALL".
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum PatchedInstruction {
    /// `f3 0f 01 d9`: hand over to the hypervisor.
    Vmgexit,
    /// `f2 0f 01 ff`: validate or rescind a page. RAX address, ECX size, EDX validate; EAX status, CF unchanged state.
    Pvalidate,
    /// `f3 0f 01 fe`: change a page's permissions. RAX address, RCX size, RDX attributes; EAX status.
    Rmpadjust,
    /// `66 0f 01 cc`: call the TDX module. All in general registers.
    Tdcall,
}

impl PatchedInstruction {
    /// All of them.
    pub const ALL: [Self; 4] = [Self::Vmgexit, Self::Pvalidate, Self::Rmpadjust, Self::Tdcall];

    /// Bytes of the OUT that takes its place; two NOPs follow.
    pub const OUT_LENGTH: u8 = 2;

    /// The port that stands for it. A PC has nothing at these, and neither has this VMM.
    pub const fn port(self) -> u16 {
        match self {
            Self::Vmgexit => 0xb4,
            Self::Pvalidate => 0xb5,
            Self::Rmpadjust => 0xb6,
            Self::Tdcall => 0xb7,
        }
    }

    /// What a write to `port` stands for.
    pub fn from_port(port: u16) -> Option<Self> {
        Self::ALL.into_iter().find(|instruction| instruction.port() == port)
    }

    /// Its bytes.
    pub const fn bytes(self) -> [u8; 4] {
        match self {
            Self::Vmgexit => [0xf3, 0x0f, 0x01, 0xd9],
            Self::Pvalidate => [0xf2, 0x0f, 0x01, 0xff],
            Self::Rmpadjust => [0xf3, 0x0f, 0x01, 0xfe],
            Self::Tdcall => [0x66, 0x0f, 0x01, 0xcc],
        }
    }

    /// What takes their place: `out port, al; nop; nop`.
    pub const fn replacement(self) -> [u8; 4] {
        let [port, _] = self.port().to_le_bytes();
        [0xe6, port, 0x90, 0x90]
    }

    fn from_bytes(bytes: &[u8]) -> Option<Self> {
        Self::ALL.into_iter().find(|instruction| bytes == instruction.bytes())
    }

    fn is(self, decoded: &Instruction) -> bool {
        let code = decoded.code();
        match self {
            Self::Vmgexit => code == Code::Vmgexit,
            Self::Pvalidate => matches!(code, Code::Pvalidatew | Code::Pvalidated | Code::Pvalidateq),
            Self::Rmpadjust => code == Code::Rmpadjust,
            Self::Tdcall => code == Code::Tdcall,
        }
    }
}

/// A place that was patched.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Site {
    /// What was there.
    pub instruction: PatchedInstruction,
    /// Its virtual address in the image.
    pub address: u64,
    /// Its guest-physical address.
    pub gpa: u64,
}

impl Site {
    /// Whether RIP at an exit belongs to this place: at the OUT or, on an engine that has advanced, right behind it.
    pub fn matches_rip(&self, rip: u64) -> bool {
        rip.checked_sub(self.address).is_some_and(|offset| offset == 0 || offset == 2)
    }
}

/// Why a pattern was left as it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SkipReason {
    /// Decoding passes over it: it is part of another instruction.
    InsideAnotherInstruction,
    /// No known start leads to it: it is data, or something between sections.
    NoKnownStart,
    /// Between the known start and it are bytes that are no instruction.
    UndecodableBefore,
}

/// A pattern that was found and left as it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Skipped {
    /// What it looks like.
    pub instruction: PatchedInstruction,
    /// Its virtual address in the image.
    pub address: u64,
    /// Why it was left.
    pub reason: SkipReason,
}

/// What [`patch`] did, by ascending address within each segment: for the journal.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PatchReport {
    /// What was patched.
    pub sites: Vec<Site>,
    /// What was left.
    pub skipped: Vec<Skipped>,
}

impl PatchReport {
    /// Tells the log.
    #[cfg(all(target_os = "linux", target_arch = "x86_64"))]
    pub(crate) fn log(&self) {
        tracing::info!(patched = self.sites.len(), skipped = self.skipped.len(), "guest launched");
        for skipped in &self.skipped {
            tracing::warn!(
                ?skipped,
                "looks like an instruction that should be patched, but cannot be proven to be one"
            );
        }
    }
}

/// Why patching was given up.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum PatchError {
    /// RAM does not hold the image.
    #[error(
        "at {gpa:#x} guest RAM does not hold the image: load it before patching, and patch before running"
    )]
    NotLoaded {
        /// Guest-physical address of an instruction.
        gpa: u64,
    },
    /// RAM does not reach as far.
    #[error(transparent)]
    OutOfRange(#[from] OutOfRange),
}

/// Patches the loaded image in `ram`. All places are checked before the first is written.
pub fn patch(image: &ElfImage<'_>, ram: &GuestRam) -> Result<PatchReport, PatchError> {
    let mut report = PatchReport::default();
    for segment in image.segments().iter().filter(|segment| segment.executable) {
        let code = image.contents(segment);
        for (hit, verdict) in judge_hits(image, segment.address, code) {
            let address = segment.address + hit.offset;
            match verdict {
                Ok(()) => {
                    let gpa = segment.gpa + hit.offset;
                    report.sites.push(Site { instruction: hit.instruction, address, gpa });
                }
                Err(reason) => {
                    report.skipped.push(Skipped { instruction: hit.instruction, address, reason });
                }
            }
        }
    }
    for site in &report.sites {
        let mut present = [0; 4];
        ram.read(site.gpa, &mut present)?;
        if present != site.instruction.bytes() {
            return Err(PatchError::NotLoaded { gpa: site.gpa });
        }
    }
    for site in &report.sites {
        ram.write(site.gpa, &site.instruction.replacement())?;
    }
    Ok(report)
}

/// A pattern, `offset` bytes into its segment.
#[derive(Clone, Copy)]
struct Hit {
    offset: u64,
    instruction: PatchedInstruction,
}

type Verdict = Result<(), SkipReason>;

/// Finds the patterns of a segment and decides about each. Every byte is decoded at most once.
fn judge_hits(image: &ElfImage<'_>, base: u64, code: &[u8]) -> Vec<(Hit, Verdict)> {
    let mut hits: Vec<_> = (0u64..)
        .zip(code.windows(4))
        .filter_map(|(offset, bytes)| {
            let hit = Hit { offset, instruction: PatchedInstruction::from_bytes(bytes)? };
            Some((hit, Err(SkipReason::NoKnownStart)))
        })
        .collect();
    let mut rest = hits.as_mut_slice();
    for span in spans(image, base, code.len()) {
        let before = rest.partition_point(|(hit, _)| hit.offset < span.start);
        let within = rest.partition_point(|(hit, _)| hit.offset < span.end);
        let (judged, behind) = rest.split_at_mut(within);
        let (_, judged) = judged.split_at_mut(before);
        if !judged.is_empty() {
            sweep(base, code, &span, judged);
        }
        rest = behind;
    }
    hits
}

/// A stretch of code with a known start, in offsets into its segment.
struct Span {
    start: u64,
    end: u64,
}

/// The stretches of a segment, ascending and without overlap: each ends at the next start or with its section.
fn spans(image: &ElfImage<'_>, base: u64, length: usize) -> Vec<Span> {
    let length = u64::try_from(length).unwrap_or(u64::MAX);
    let inside = |address: u64| address.checked_sub(base).filter(|&offset| offset < length);
    let mut starts: Vec<u64> = image.functions().iter().copied().filter_map(inside).collect();
    starts.extend(inside(image.entry()));
    let sections = image.code_sections();
    if sections.is_empty() {
        starts.push(0);
    }
    starts.extend(sections.iter().filter_map(|section| inside(section.start)));
    starts.sort_unstable();
    starts.dedup();
    let next = starts.iter().copied().skip(1).chain([length]);
    let mut section_ends = SectionEnds { sections, next: 0, reach: 0 };
    starts
        .iter()
        .zip(next)
        .map(|(&start, next)| {
            let end =
                if sections.is_empty() { length } else { section_ends.at(base + start).saturating_sub(base) };
            Span { start, end: next.min(end) }
        })
        .filter(|span| span.start < span.end)
        .collect()
}

/// Answers, for ascending addresses, how far the code sections reach that begin at or before them.
struct SectionEnds<'image> {
    sections: &'image [std::ops::Range<u64>],
    next: usize,
    reach: u64,
}

impl SectionEnds<'_> {
    fn at(&mut self, address: u64) -> u64 {
        while let Some(section) = self.sections.get(self.next)
            && section.start <= address
        {
            self.reach = self.reach.max(section.end);
            self.next += 1;
        }
        self.reach
    }
}

/// Decodes a stretch from its start, and decides about the patterns in it.
fn sweep(base: u64, code: &[u8], span: &Span, hits: &mut [(Hit, Verdict)]) {
    let (Ok(start), Ok(end)) = (usize::try_from(span.start), usize::try_from(span.end)) else {
        return;
    };
    let Some(bytes) = code.get(start..end) else {
        return;
    };
    let mut decoder = Decoder::with_ip(64, bytes, base + span.start, DecoderOptions::NONE);
    let mut instruction = Instruction::default();
    let mut hits = hits.iter_mut();
    let mut current = hits.next();
    while let Some((hit, verdict)) = current.as_mut() {
        if !decoder.can_decode() {
            // The last instruction reached over it.
            *verdict = Err(SkipReason::InsideAnotherInstruction);
            current = hits.next();
            continue;
        }
        decoder.decode_out(&mut instruction);
        if instruction.is_invalid() {
            *verdict = Err(SkipReason::UndecodableBefore);
            hits.for_each(|(_, verdict)| *verdict = Err(SkipReason::UndecodableBefore));
            return;
        }
        let address = base + hit.offset;
        if instruction.ip() == address && hit.instruction.is(&instruction) && instruction.len() == 4 {
            *verdict = Ok(());
            current = hits.next();
            continue;
        }
        while let Some((hit, verdict)) = current.as_mut()
            && base + hit.offset < instruction.next_ip()
        {
            *verdict = Err(SkipReason::InsideAnotherInstruction);
            current = hits.next();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::loader::elf::tests::{Part, build};
    use rstest::rstest;

    const BASE: u64 = 0x1000;

    /// Loads `code` at [`BASE`], patches it, and returns the report and the code as it is then.
    fn patched(code: &[u8], functions: &[u64]) -> (PatchReport, Vec<u8>) {
        let bytes = build(BASE, &[Part::code(BASE, code)], functions);
        let image = ElfImage::parse(&bytes).unwrap();
        let ram = GuestRam::new(0x4000).unwrap();
        image.load(&ram, &[]).unwrap();
        let report = patch(&image, &ram).unwrap();
        let mut after = vec![0; code.len()];
        ram.read(BASE, &mut after).unwrap();
        (report, after)
    }

    #[rstest]
    #[case(PatchedInstruction::Vmgexit, [0xe6, 0xb4, 0x90, 0x90])]
    #[case(PatchedInstruction::Pvalidate, [0xe6, 0xb5, 0x90, 0x90])]
    #[case(PatchedInstruction::Rmpadjust, [0xe6, 0xb6, 0x90, 0x90])]
    #[case(PatchedInstruction::Tdcall, [0xe6, 0xb7, 0x90, 0x90])]
    fn an_instruction_is_patched(#[case] instruction: PatchedInstruction, #[case] replacement: [u8; 4]) {
        let mut code = vec![0x31, 0xc0]; // xor eax, eax
        code.extend(instruction.bytes());
        code.push(0xf4); // hlt
        let (report, after) = patched(&code, &[]);
        assert_eq!(report.sites, [Site { instruction, address: BASE + 2, gpa: BASE + 2 }]);
        assert!(report.skipped.is_empty());
        assert_eq!(after, [&[0x31, 0xc0], &replacement[..], &[0xf4]].concat());
        assert_eq!(PatchedInstruction::from_port(instruction.port()), Some(instruction));
        assert!(report.sites[0].matches_rip(BASE + 2) && report.sites[0].matches_rip(BASE + 4));
        assert!(!report.sites[0].matches_rip(BASE + 3) && !report.sites[0].matches_rip(0));
    }

    #[test]
    fn what_is_part_of_another_instruction_stays() {
        let code = [
            0x48, 0xb8, 0xf3, 0x0f, 0x01, 0xd9, 0xf2, 0x0f, 0x01, 0xff, // mov rax, 0xff010ff2d9010ff3
            0xf3, 0x0f, 0x01, 0xd9, // vmgexit
            0xf4, // hlt
        ];
        let (report, after) = patched(&code, &[]);
        assert_eq!(report.sites.len(), 1);
        assert_eq!(report.sites[0].address, BASE + 10);
        let reasons: Vec<_> =
            report.skipped.iter().map(|skipped| (skipped.address, skipped.reason)).collect();
        let inside = SkipReason::InsideAnotherInstruction;
        assert_eq!(reasons, [(BASE + 2, inside), (BASE + 6, inside)]);
        assert_eq!(after[..10], code[..10]);
        assert_eq!(after[10..14], [0xe6, 0xb4, 0x90, 0x90]);
    }

    #[test]
    fn behind_what_does_not_decode_only_a_new_start_counts() {
        let code = [
            0x06, // no instruction in 64-bit mode
            0xf3, 0x0f, 0x01, 0xd9, // vmgexit
            0x90, // nop
            0xf3, 0x0f, 0x01, 0xfe, // rmpadjust
            0xf4, // hlt
        ];
        let (report, _) = patched(&code, &[]);
        assert!(report.sites.is_empty());
        assert!(report.skipped.iter().all(|skipped| skipped.reason == SkipReason::UndecodableBefore));
        assert_eq!(report.skipped.len(), 2);

        let (report, _) = patched(&code, &[BASE + 5]);
        let reasons: Vec<_> = report.skipped.iter().map(|skipped| skipped.reason).collect();
        assert_eq!(reasons, [SkipReason::UndecodableBefore]);
        assert_eq!(report.sites.len(), 1);
        assert_eq!(report.sites[0].instruction, PatchedInstruction::Rmpadjust);
    }

    #[test]
    fn a_function_start_ends_the_stretch_before() {
        // Decoded from the section's start, the second byte of the MOV would swallow the VMGEXIT.
        let code = [
            0xf4, // hlt
            0x48, 0xb8, // the beginning of a ten-byte MOV: data, in truth
            0xf3, 0x0f, 0x01, 0xd9, // vmgexit
            0xf4, 0x90, 0x90, 0x90, 0x90, // hlt; nop …
        ];
        let (without, _) = patched(&code, &[]);
        assert_eq!(without.skipped[0].reason, SkipReason::InsideAnotherInstruction);
        let (with, _) = patched(&code, &[BASE + 3]);
        assert_eq!(with.sites.len(), 1);
    }

    #[test]
    fn data_and_read_only_segments_stay() {
        let mut data = Part::code(0x2000, &PatchedInstruction::Vmgexit.bytes());
        data.flags = 0;
        let bytes = build(BASE, &[Part::code(BASE, &[0xf4]), data], &[]);
        let image = ElfImage::parse(&bytes).unwrap();
        let ram = GuestRam::new(0x4000).unwrap();
        image.load(&ram, &[]).unwrap();
        assert_eq!(patch(&image, &ram).unwrap(), PatchReport::default());

        // An executable segment behind the section table's last section of instructions.
        let tail = Part::code(0x2000, &PatchedInstruction::Vmgexit.bytes());
        let bytes = build(BASE, &[Part::code(BASE, &[0xf4]), tail], &[BASE]);
        let image = ElfImage::parse(&bytes).unwrap();
        let ram = GuestRam::new(0x4000).unwrap();
        image.load(&ram, &[]).unwrap();
        let report = patch(&image, &ram).unwrap();
        assert_eq!((report.sites.len(), report.skipped[0].reason), (0, SkipReason::NoKnownStart));
    }

    #[test]
    fn ram_without_the_image_is_left_alone() {
        let bytes = build(BASE, &[Part::code(BASE, &PatchedInstruction::Vmgexit.bytes())], &[]);
        let image = ElfImage::parse(&bytes).unwrap();
        let ram = GuestRam::new(0x4000).unwrap();
        assert_eq!(patch(&image, &ram), Err(PatchError::NotLoaded { gpa: BASE }));
        image.load(&ram, &[]).unwrap();
        assert_eq!(patch(&image, &ram).unwrap().sites.len(), 1);
        assert_eq!(patch(&image, &ram), Err(PatchError::NotLoaded { gpa: BASE }), "not a second time");
    }

    #[test]
    fn ports_are_nobody_elses() {
        for instruction in PatchedInstruction::ALL {
            let serial = 0x3f8..0x400;
            assert!(!serial.contains(&instruction.port()));
            assert!(![0x80, 0xf4].contains(&instruction.port()));
        }
        assert_eq!(PatchedInstruction::from_port(0xb8), None);
    }
}
