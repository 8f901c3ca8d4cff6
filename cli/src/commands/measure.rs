//! `tsmsim measure`: the launch measurement, before anything runs.

use serde_json::json;
use tsmsim_abi::{cove::claims::register, tdx::tdvf::Tdvf};
use tsmsim_keys::{Seed, SignatureMode};
use tsmsim_simulator::{
    cove::measure::InitialRegisters,
    snp::{firmware::Firmware, launch::LaunchDigest},
    tdx::{guest::default_params, tdvf, vmcall::HostConfig},
};
use tsmsim_vmm::{
    cc::{
        linux::{SnpLinux, TdxLinux, measure_cove, measure_snp, measure_tdx},
        tdx::Surroundings,
    },
    loader::{
        linux::riscv_image::RiscvKernel,
        ovmf::{self, DirectBoot, Ovmf, OvmfError},
        td, tvm,
        vmsa::{VmmType, cpu_signature},
    },
};

use crate::{
    args::{
        DEFAULT_MEMORY, EngineChoice, LinuxArgs, MeasureArgs, MeasuredLinuxArgs, OvmfArgs, Profile, Tee, Vmm,
    },
    cove,
    failure::Failure,
    guest,
    linux::{
        engine::Engine,
        image::{Image, Kernel, is_linux},
    },
    output::{hex, print, print_json, read_file},
    snp::platform,
    tdx,
};

/// CPU model unless one is given.
const DEFAULT_MODEL: &str = "EPYC-v4";
/// `SEV_FEATURES` unless given: SNP is active.
const DEFAULT_FEATURES: u64 = 1;

/// Runs the command.
pub(crate) fn run(args: &MeasureArgs) -> Result<(), Failure> {
    let (tee, measurement) = match (args.tee, linux(args)?) {
        (Tee::Snp, Some(linux)) => ("snp", of_snp_linux(args, &linux)?),
        (Tee::Snp, None) => ("snp", of_snp_guest(args)?),
        (Tee::Tdx, Some(linux)) => ("tdx", of_td_linux(args, &linux)?),
        (Tee::Tdx, None) => ("tdx", of_td(args)?),
        (Tee::Cove, linux) => return print_registers(args, &of_tvm(args, linux.as_ref())?),
    };
    let measurement = hex(&measurement);
    if args.json {
        print_json(&json!({ "tee": tee, "measurement": measurement }));
    } else {
        print(&format!("{measurement}\n"));
    }
    Ok(())
}

/// The measured pages, which are what tells one TVM from another; in JSON, all initial registers.
fn print_registers(args: &MeasureArgs, registers: &InitialRegisters) -> Result<(), Failure> {
    let values: Vec<String> = registers.values().iter().map(|value| hex(value)).collect();
    let measurement = &values[register::TVM_PAGES];
    if args.json {
        print_json(&json!({ "tee": "cove", "measurement": measurement, "registers": values }));
    } else {
        print(&format!("{measurement}\n"));
    }
    Ok(())
}

/// A TVM: Linux as `tsmsim boot` launches it, or a bare-metal guest.
fn of_tvm(args: &MeasureArgs, linux: Option<&LinuxArgs>) -> Result<InitialRegisters, Failure> {
    if args.ovmf.is_some() || args.firmware.any() {
        let text =
            "--ovmf and what goes with it are for --tee snp and tdx: a TVM's firmware is no part of it";
        return Err(Failure::Usage(text.to_owned()));
    }
    let platform = cove::local::platform(SignatureMode::default(), &Seed::DEFAULT)?;
    match linux {
        Some(linux) => {
            let (image, _) = of_image::<RiscvKernel>(args, linux)?;
            Ok(measure_cove(&image.boot(), &platform)?)
        }
        None => {
            let elf = guest::load_riscv64(args.kernel.as_deref())?;
            tvm::measure(&elf, platform.initial_registers())
                .map_err(|error| Failure::Usage(format!("the guest cannot be loaded: {error}")))
        }
    }
}

/// The Linux guest, if the kernel is Linux. Its options go with no other guest.
fn linux(args: &MeasureArgs) -> Result<Option<LinuxArgs>, Failure> {
    let kernel = args.kernel.as_deref().filter(|_| args.ovmf.is_none());
    if kernel.map(read_file).transpose()?.is_some_and(|bytes| is_linux(&bytes)) {
        if args.firmware.any() {
            let text = "--vcpus, --vcpu-type, --vcpu-sig, --vmm-type and --guest-features go with --ovmf";
            return Err(Failure::Usage(text.to_owned()));
        }
        let MeasuredLinuxArgs { modules, mem, add, command, .. } = &args.linux;
        return Ok(Some(LinuxArgs {
            kernel: args.kernel.clone(),
            modules: modules.clone(),
            initrd: args.initrd.clone(),
            append: args.append.clone().unwrap_or_default(),
            mem: mem.unwrap_or(DEFAULT_MEMORY),
            add: add.clone(),
            command: command.clone(),
        }));
    }
    if args.linux.any() {
        let text =
            "--engine, --profile, --modules, --mem, --add and CMD are for a Linux kernel without --ovmf";
        return Err(Failure::Usage(text.to_owned()));
    }
    let hashed = args.initrd.is_some() || args.append.is_some();
    if hashed && args.ovmf.is_none() {
        let text = "--initrd and --append are for a Linux kernel, or go with --ovmf; this kernel is a bare-metal guest";
        return Err(Failure::Usage(text.to_owned()));
    }
    Ok(None)
}

/// A Linux guest as `tsmsim boot` launches it. What the report is to carry makes no difference.
fn of_snp_linux(args: &MeasureArgs, linux: &LinuxArgs) -> Result<[u8; 48], Failure> {
    let (image, engine) = of_image(args, linux)?;
    let platform = platform::of_profile(args.linux.profile, engine.c_bit())?;
    let snp = SnpLinux::new(Firmware::new(platform), engine.c_bit());
    let digest = match &engine {
        Engine::Qemu => measure_snp(&image.boot(), &snp)?,
        Engine::Kvm { linux, .. } => linux.measure_snp(&image.boot(), &snp)?,
    };
    Ok(*digest.as_bytes())
}

/// The same as a TD.
fn of_td_linux(args: &MeasureArgs, linux: &LinuxArgs) -> Result<[u8; 48], Failure> {
    let (image, engine) = of_image(args, linux)?;
    let profile = args.linux.profile.unwrap_or(Profile::Tdx15);
    let platform = tdx::local::platform(profile, false, SignatureMode::default(), &Seed::DEFAULT)?;
    let tdx = TdxLinux {
        platform,
        host: HostConfig::default(),
        params: default_params(),
        surroundings: Surroundings::default(),
    };
    Ok(match &engine {
        Engine::Qemu => measure_tdx(&image.boot(), &tdx)?,
        Engine::Kvm { linux, .. } => linux.measure_tdx(&image.boot(), &tdx)?,
    })
}

fn of_image<K: Kernel>(args: &MeasureArgs, linux: &LinuxArgs) -> Result<(Image<K>, Engine), Failure> {
    let image = Image::new(linux, args.tee, &[0; 64])?;
    let engine = Engine::new(args.linux.engine.unwrap_or(EngineChoice::Auto), args.tee)?;
    Ok((image, engine))
}

fn of_snp_guest(args: &MeasureArgs) -> Result<[u8; 48], Failure> {
    let digest = match &args.ovmf {
        Some(image) => {
            let image = read_file(image)?;
            let kernel = args.kernel.as_deref().map(read_file).transpose()?;
            of_ovmf(&image, kernel.as_deref(), args)?
        }
        None => *guest::load(args.kernel.as_deref())?.measure(),
    };
    Ok(*digest.as_bytes())
}

/// `MRTD`. What the firmware measures into RTMRs depends on the host, so it is not told.
fn of_td(args: &MeasureArgs) -> Result<[u8; 48], Failure> {
    let snp_only = args.initrd.is_some() || args.append.is_some() || args.firmware.any();
    if snp_only {
        let text = "--initrd, --append, --vcpus, --vcpu-type, --vcpu-sig, --vmm-type and --guest-features are for --tee snp: \
                    MRTD does not depend on them";
        return Err(Failure::Usage(text.to_owned()));
    }
    match (&args.ovmf, &args.kernel) {
        (Some(_), Some(_)) => Err(Failure::Usage(
            "--tee tdx takes --ovmf or --kernel, not both: a kernel that firmware starts is measured into RTMRs, not MRTD"
                .to_owned(),
        )),
        (Some(path), None) => {
            let image = read_file(path)?;
            let name = path.display();
            match Tdvf::read(&image) {
                Ok(Some(image)) => Ok(tdvf::measure(&image)),
                Ok(None) => Err(Failure::Usage(format!(
                    "{name} has no TDX metadata: is this an OVMF image for TDX (edk2-stable202205 or later, code and \
                     variables in one file)?"
                ))),
                Err(error) => Err(Failure::Usage(format!("{name}: {error}"))),
            }
        }
        (None, kernel) => td::measure(&guest::load(kernel.as_deref())?.elf)
            .map_err(|error| Failure::Usage(format!("the guest cannot be loaded: {error}"))),
    }
}

impl OvmfArgs {
    /// Whether any of them was given.
    const fn any(&self) -> bool {
        let Self { vcpus, vcpu_type, vcpu_sig, vmm_type, guest_features } = self;
        vcpus.is_some()
            || vcpu_type.is_some()
            || vcpu_sig.is_some()
            || vmm_type.is_some()
            || guest_features.is_some()
    }
}

impl From<Vmm> for VmmType {
    fn from(vmm: Vmm) -> Self {
        match vmm {
            Vmm::Qemu => Self::Qemu,
            Vmm::Ec2 => Self::Ec2,
            Vmm::Gce => Self::Gce,
        }
    }
}

fn of_ovmf(image: &[u8], kernel: Option<&[u8]>, args: &MeasureArgs) -> Result<LaunchDigest, Failure> {
    let initrd = args.initrd.as_deref().map(read_file).transpose()?.unwrap_or_default();
    let append = args.append.as_deref().unwrap_or_default();
    let args = &args.firmware;
    let boot = kernel.map(|kernel| DirectBoot { kernel, initrd: &initrd, append });
    let signature = match args.vcpu_sig {
        Some(bits) => {
            u32::try_from(bits).map_err(|_| Failure::Usage("--vcpu-sig is a 32-bit value".to_owned()))?
        }
        None => {
            let model = args.vcpu_type.as_deref().unwrap_or(DEFAULT_MODEL);
            cpu_signature(model).ok_or_else(|| Failure::Usage(format!("unknown CPU model {model}")))?
        }
    };
    let vmm = args.vmm_type.unwrap_or(Vmm::Qemu).into();
    let vcpus = usize::from(args.vcpus.unwrap_or(1));
    let features = args.guest_features.unwrap_or(DEFAULT_FEATURES);
    let digest = || -> Result<LaunchDigest, OvmfError> {
        let ovmf = Ovmf::parse(image)?;
        let vmsas = ovmf.vmsas(vmm, vcpus, signature, features)?;
        Ok(ovmf::measure(&ovmf.ranges(vmm, boot)?, &vmsas))
    };
    digest().map_err(|error| Failure::Usage(error.to_string()))
}
