//! `tsmsim measure`: the launch measurement, before anything runs.

use serde_json::json;
use tsmsim_abi::tdx::tdvf::Tdvf;
use tsmsim_simulator::{snp::launch::LaunchDigest, tdx::tdvf};
use tsmsim_vmm::loader::{
    ovmf::{self, DirectBoot, Ovmf, OvmfError},
    td,
    vmsa::{VmmType, cpu_signature},
};

use crate::{
    args::{MeasureArgs, OvmfArgs, Tee, Vmm},
    failure::Failure,
    guest,
    output::{hex, print, print_json, read_file},
};

/// CPU model unless one is given.
const DEFAULT_MODEL: &str = "EPYC-v4";
/// `SEV_FEATURES` unless given: SNP is active.
const DEFAULT_FEATURES: u64 = 1;

/// Runs the command.
pub(crate) fn run(args: &MeasureArgs) -> Result<(), Failure> {
    let (tee, measurement) = match args.tee {
        Tee::Snp => ("snp", of_snp_guest(args)?),
        Tee::Tdx => ("tdx", of_td(args)?),
    };
    let measurement = hex(&measurement);
    if args.json {
        print_json(&json!({ "tee": tee, "measurement": measurement }));
    } else {
        print(&format!("{measurement}\n"));
    }
    Ok(())
}

fn of_snp_guest(args: &MeasureArgs) -> Result<[u8; 48], Failure> {
    let digest = match &args.ovmf {
        Some(image) => {
            let image = read_file(image)?;
            let kernel = args.kernel.as_deref().map(read_file).transpose()?;
            of_ovmf(&image, kernel.as_deref(), &args.firmware)?
        }
        None => *guest::load(args.kernel.as_deref())?.measure(),
    };
    Ok(*digest.as_bytes())
}

/// `MRTD`. What the firmware measures into RTMRs depends on the host, so it is not told.
fn of_td(args: &MeasureArgs) -> Result<[u8; 48], Failure> {
    let OvmfArgs { initrd, append, vcpus, vcpu_type, vcpu_sig, vmm_type, guest_features } = &args.firmware;
    let snp_only = initrd.is_some()
        || append.is_some()
        || vcpus.is_some()
        || vcpu_type.is_some()
        || vcpu_sig.is_some()
        || vmm_type.is_some()
        || guest_features.is_some();
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

impl From<Vmm> for VmmType {
    fn from(vmm: Vmm) -> Self {
        match vmm {
            Vmm::Qemu => Self::Qemu,
            Vmm::Ec2 => Self::Ec2,
            Vmm::Gce => Self::Gce,
        }
    }
}

fn of_ovmf(image: &[u8], kernel: Option<&[u8]>, args: &OvmfArgs) -> Result<LaunchDigest, Failure> {
    let initrd = args.initrd.as_deref().map(read_file).transpose()?.unwrap_or_default();
    let append = args.append.as_deref().unwrap_or_default();
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
