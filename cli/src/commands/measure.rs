//! `tsmsim measure`: the launch measurement, before anything runs.

use serde_json::json;
use tsmsim_simulator::snp::launch::LaunchDigest;
use tsmsim_vmm::loader::{
    ovmf::{self, DirectBoot, Ovmf, OvmfError},
    vmsa::{VmmType, cpu_signature},
};

use crate::{
    args::{MeasureArgs, MeasuredTee, OvmfArgs, Vmm},
    failure::Failure,
    guest,
    output::{hex, print, print_json, read_file},
};

/// Runs the command.
pub(crate) fn run(args: &MeasureArgs) -> Result<(), Failure> {
    let MeasuredTee::Snp = args.tee;
    let digest = match &args.ovmf {
        Some(image) => {
            let image = read_file(image)?;
            let kernel = args.kernel.as_deref().map(read_file).transpose()?;
            of_ovmf(&image, kernel.as_deref(), &args.firmware)?
        }
        None => *guest::load(args.kernel.as_deref())?.measure(),
    };
    let measurement = hex(digest.as_bytes());
    if args.json {
        print_json(&json!({ "tee": "snp", "measurement": measurement }));
    } else {
        print(&format!("{measurement}\n"));
    }
    Ok(())
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
        None => cpu_signature(&args.vcpu_type)
            .ok_or_else(|| Failure::Usage(format!("unknown CPU model {}", args.vcpu_type)))?,
    };
    let vmm = args.vmm_type.into();
    let digest = || -> Result<LaunchDigest, OvmfError> {
        let ovmf = Ovmf::parse(image)?;
        let vmsas = ovmf.vmsas(vmm, usize::from(args.vcpus), signature, args.guest_features)?;
        Ok(ovmf::measure(&ovmf.ranges(vmm, boot)?, &vmsas))
    };
    digest().map_err(|error| Failure::Usage(error.to_string()))
}
