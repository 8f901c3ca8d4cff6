//! The kernel and RAM disk that a guest is booted with.

use std::{ffi::OsString, os::unix::ffi::OsStrExt};

use tsmsim_abi::linux_guest::{TASK_MAGIC, Task};
use tsmsim_vmm::{
    cc::linux::LinuxBoot,
    loader::linux::{
        image::{ImageError, KernelImage},
        initramfs::{Added, GuestFiles},
        modules::{COVE_MODULES, ModuleDirectory, ModuleError, SNP_MODULES, TDX_MODULES, Wanted},
        riscv_image::RiscvKernel,
    },
};
use zerocopy::IntoBytes;

use super::kernel::{Processor, find};
use crate::{
    args::{LinuxArgs, Tee},
    failure::Failure,
    output::read_file,
};

#[cfg(embedded_linux_init)]
const INIT: Option<&[u8]> = Some(include_bytes!(concat!(env!("OUT_DIR"), "/guest-linux.elf")));
#[cfg(not(embedded_linux_init))]
const INIT: Option<&[u8]> = None;

#[cfg(embedded_linux_init_riscv64)]
const INIT_RISCV64: Option<&[u8]> =
    Some(include_bytes!(concat!(env!("OUT_DIR"), "/guest-linux-riscv64.elf")));
#[cfg(not(embedded_linux_init_riscv64))]
const INIT_RISCV64: Option<&[u8]> = None;

/// A kernel of one kind of processor.
pub(crate) trait Kernel: Sized {
    /// Which kernels are looked for.
    const PROCESSOR: Processor;
    /// The init program for it.
    const INIT: Option<&'static [u8]>;

    /// Reads a kernel, or says why it is none.
    fn read(bytes: &[u8]) -> Result<Self, String>;

    /// Its release, if it says one.
    fn release(&self) -> Option<&str>;
}

impl Kernel for KernelImage {
    const PROCESSOR: Processor = Processor::X86;
    const INIT: Option<&'static [u8]> = INIT;

    fn read(bytes: &[u8]) -> Result<Self, String> {
        Self::read(bytes).map_err(|error| error.to_string())
    }

    fn release(&self) -> Option<&str> {
        self.release()
    }
}

impl Kernel for RiscvKernel {
    const PROCESSOR: Processor = Processor::Riscv;
    const INIT: Option<&'static [u8]> = INIT_RISCV64;

    fn read(bytes: &[u8]) -> Result<Self, String> {
        Self::read(bytes).map_err(|error| error.to_string())
    }

    fn release(&self) -> Option<&str> {
        self.release()
    }
}

impl Tee {
    /// The modules that a guest's driver is made of.
    const fn modules(self) -> &'static [Wanted<'static>] {
        match self {
            Self::Snp => &SNP_MODULES,
            Self::Tdx => &TDX_MODULES,
            Self::Cove => &COVE_MODULES,
        }
    }

    /// What to do about modules that cannot be had.
    fn hint(self, error: &ModuleError) -> &'static str {
        match error {
            ModuleError::Missing { name, .. }
                if self == Self::Cove && matches!(name.as_str(), "cove_guest" | "tsm") =>
            {
                "; no distribution has it: `cargo xtask setup` builds cove_guest and tsm for Debian's kernel, and \
                 guest-tests/linux-cove-module/README.md says how it is built for another"
            }
            _ => "",
        }
    }
}

/// Whether these bytes are a Linux kernel: a bzImage, an ELF image with Linux's banner, or an image for RISC-V.
pub(crate) fn is_linux(bytes: &[u8]) -> bool {
    if RiscvKernel::is_one(bytes) {
        return true;
    }
    match KernelImage::read(bytes) {
        Ok(kernel) => kernel.release().is_some(),
        // A damaged bzImage is told as such later.
        Err(ImageError::Unknown | ImageError::Elf(_) | ImageError::Kind(_)) => false,
        Err(_) => !bytes.starts_with(b"\x7fELF"),
    }
}

/// What a kernel is that is for the other processor.
fn other_processor(wanted: Processor, file: &[u8]) -> Option<&'static str> {
    match wanted {
        Processor::X86 if RiscvKernel::is_one(file) => {
            Some("a kernel for RISC-V, and guests of SNP and TDX are x86-64 ones")
        }
        Processor::Riscv if KernelImage::read(file).is_ok() => {
            Some("a kernel for x86-64, and guests of CoVE are RISC-V ones")
        }
        Processor::X86 | Processor::Riscv => None,
    }
}

/// What a guest is booted with.
pub(crate) struct Image<K = KernelImage> {
    kernel: K,
    initrd: Vec<u8>,
    append: String,
    ram_size: u64,
    task: Vec<u8>,
}

impl<K: Kernel> Image<K> {
    /// Reads and packs what the arguments name. The report is to carry `inblob`.
    pub(crate) fn new(args: &LinuxArgs, tee: Tee, inblob: &[u8; 64]) -> Result<Self, Failure> {
        let Some(init) = K::INIT else {
            let text = "this tsmsim was built without the init program of its guests: build it with `cargo xtask build`";
            return Err(Failure::Lacking(text.to_owned()));
        };
        let found = find(K::PROCESSOR, args.kernel.as_deref(), args.modules.as_deref())?;
        let file = read_file(&found.image)?;
        let kernel = K::read(&file).map_err(|error| {
            let problem = other_processor(K::PROCESSOR, &file).map_or(error, str::to_owned);
            Failure::Usage(format!("{}: {problem}", found.image.display()))
        })?;
        let modules = match &found.modules {
            Some(directory) => ModuleDirectory::open(directory)
                .and_then(|directory| directory.load(tee.modules()))
                .map_err(|error| Failure::Usage(format!("{error}{}", tee.hint(&error))))?,
            None => Vec::new(),
        };
        let bytes = |text: &OsString| text.as_bytes().to_vec();
        let command: Vec<_> = args.command.iter().map(bytes).collect();
        let added: Vec<_> = args
            .add
            .iter()
            .map(|file| Added { host: file.host.clone(), guest: file.guest.clone() })
            .collect();
        let files =
            GuestFiles { init, modules: &modules, command: &command, added: &added, ..GuestFiles::default() };
        let own = args.initrd.as_deref().map(read_file).transpose()?;
        let packed = files.archive().and_then(|archive| match own {
            Some(first) => archive.finish_behind(first),
            None => Ok(archive.finish()),
        });
        let initrd = packed.map_err(|error| Failure::Usage(format!("the guest's RAM disk: {error}")))?;
        let task = Task { magic: TASK_MAGIC, inblob_len: 64.into(), reserved_0xc: 0.into(), inblob: *inblob };
        let task = task.as_bytes().to_vec();
        Ok(Self { kernel, initrd, append: args.append.clone(), ram_size: args.mem << 20, task })
    }

    /// The kernel's release, if it says one.
    pub(crate) fn release(&self) -> &str {
        self.kernel.release().unwrap_or("of unknown release")
    }

    /// The boot, without console and channel.
    pub(crate) fn boot(&self) -> LinuxBoot<'_, K> {
        LinuxBoot {
            append: &self.append,
            task: &self.task,
            ..LinuxBoot::new(&self.kernel, &self.initrd, self.ram_size)
        }
    }
}
