//! Seeds of the targets about CoVE.

use tsmsim_abi::cove::{covg::CovgFid, covh::CovhFid};
use tsmsim_fuzz::cove;

use crate::{Seed, write};

/// All of them.
pub(crate) fn seeds() {
    ecalls();
    evidence();
    promotions();
}

/// Steps of `cove_ecall`: a COVG call by its function, `a0` to `a5`; memory that is written.
fn ecalls() {
    let call = |seed: Seed, function: CovgFid, arguments: &[u64]| {
        let words: Vec<u64> = arguments.iter().copied().chain([0; 6]).take(6).collect();
        seed.put([1]).put(function.0.to_le_bytes()).words(&words)
    };
    let write = |seed: Seed, gpa: u32, bytes: &[u8]| seed.put([2]).put(gpa.to_le_bytes()).sized(bytes);
    let (key, challenge, out) = (0x1000, 0x2000, 0x8000);
    // A COSE_Key: OKP, X25519.
    let cose_key = [&[0xa3, 1, 1, 0x20, 4, 0x21, 0x58, 32][..], &[5; 32]].concat();
    let seed = write(write(Seed::default(), key, &cose_key), challenge, &[7; 64]);
    let arguments = |format| [key.into(), 40, challenge.into(), format, out, 0x4000];
    let seed = call(seed, CovgFid::GET_ATTCAPS, &[0x3000, 0x1000]);
    let seed = call(seed, CovgFid::GET_EVIDENCE, &arguments(1));
    call(seed, CovgFid::GET_EVIDENCE, &arguments(2)).write("cove_ecall", "evidence");
    let seed = call(Seed::default(), CovgFid::EXTEND_MEASUREMENT, &[0x4000, 48, 6]);
    let seed = call(seed, CovgFid::READ_MEASUREMENT, &[0x4000, 48, 6]);
    call(seed, CovgFid::RETRIEVE_SECRET, &[0x5000, 0x1000]).write("cove_ecall", "measurements");
    let seed = call(Seed::default(), CovgFid::SHARE_MEMORY_REGION, &[0x6000, 0x2000]);
    let seed = call(seed, CovgFid::UNSHARE_MEMORY_REGION, &[0x7000, 0x1000]);
    let seed = call(seed, CovgFid::ADD_MMIO_REGION, &[1 << 40, 0x1000]);
    let seed = call(seed, CovgFid::REMOVE_MMIO_REGION, &[1 << 40, 0x1000]);
    let seed = call(seed, CovgFid::ALLOW_EXTERNAL_INTERRUPT, &[u64::MAX]);
    call(seed, CovgFid::DENY_EXTERNAL_INTERRUPT, &[5]).write("cove_ecall", "regions");
    // A page that the host takes away and gives back between two calls; a share that it does not finish.
    let host = |seed: Seed, function: CovhFid, page: u16, count: u8| {
        let function = u8::try_from(function.0).expect("there are few");
        seed.put([3, function]).put(page.to_le_bytes()).put([count])
    };
    let seed = call(Seed::default(), CovgFid::READ_MEASUREMENT, &[0x4000, 48, 6]);
    let seed = host(seed, CovhFid::TVM_INVALIDATE_PAGES, 4, 1);
    let seed = host(host(seed, CovhFid::TVM_FENCE, 0, 0), CovhFid::TVM_REMOVE_PAGES, 4, 1);
    let seed = host(seed, CovhFid::ADD_TVM_ZERO_PAGES, 4, 1);
    call(seed, CovgFid::READ_MEASUREMENT, &[0x4000, 48, 6]).write("cove_ecall", "page-removed");
    let words = [0x6000, 0x2000, 0, 0, 0, 0];
    let share = Seed::default().put([1 | 16]).put(CovgFid::SHARE_MEMORY_REGION.0.to_le_bytes()).words(&words);
    let seed = host(host(share, CovhFid::RUN_TVM_VCPU, 0, 0), CovhFid::ADD_TVM_SHARED_PAGES, 6, 1);
    host(seed, CovhFid::DESTROY_TVM, 0, 0).write("cove_ecall", "host-shares");
    // Any registers: the probe for COVG, a0 to a7.
    Seed::default().put([0]).words(&[0x434f_5647, 0, 0, 0, 0, 0, 3, 0x10]).write("cove_ecall", "probe");
}

fn evidence() {
    for (name, kind) in [("cbor", 0), ("x509", 4)] {
        let bundle = cove::bundle(kind == 4);
        let place = |place: &Option<Vec<u8>>| place.clone().expect("the bundle has it");
        write("evidence_show", &format!("cove-{name}"), &bundle.evidence);
        Seed::default().put([kind]).write("cove_verify", &format!("good-{name}"));
        let seed = Seed::default().put([kind | 16, 0, 0x40, 0x01, 1, 0xff]);
        seed.write("cove_verify", &format!("changed-{name}"));
        let seed = Seed::default().put([kind, 5, 0x00, 0x02, 255]);
        seed.write("cove_verify", &format!("short-chain-{name}"));
        Seed::default()
            .put([kind | 2])
            .put(&bundle.evidence)
            .write("cove_verify", &format!("evidence-{name}"));
        let seed = Seed::default().put([kind | 1]).sized(&bundle.evidence).sized(place(&bundle.root));
        let seed = seed.sized(place(&bundle.chain)).sized(place(&bundle.crl)).sized(place(&bundle.inblob));
        seed.write("cove_verify", &format!("all-{name}"));
    }
    // COSE_Keys: OKP Ed25519 and X25519; EC2 P-256, with y as a coordinate and as a sign.
    let okp = |curve: u8| [&[0xa3, 1, 1, 0x20, curve, 0x21, 0x58, 32][..], &[5; 32]].concat();
    write("cove_public_key", "ed25519", &okp(6));
    write("cove_public_key", "x25519", &okp(4));
    let ec2 = [&[0xa4, 1, 2, 0x20, 1, 0x21, 0x58, 32][..], &[5; 32]].concat();
    write("cove_public_key", "p256", &[&ec2, &[0x22, 0x58, 32][..], &[6; 32]].concat());
    write("cove_public_key", "p256-compressed", &[&ec2, &[0x22, 0xf5][..]].concat());
}

fn promotions() {
    let change = |seed: Seed, gpa: u64, bytes: &[u8]| {
        seed.put(u32::try_from(gpa).expect("it is small").to_le_bytes()).sized(bytes)
    };
    Seed::default().put([0]).write("cove_promote", "plain");
    Seed::default().put([1]).write("cove_promote", "tap");
    change(Seed::default().put([1]), cove::TAP_GPA + 0x30, &[1]).write("cove_promote", "another-measurement");
    change(Seed::default().put([1]), 0x4000, &[1]).write("cove_promote", "another-memory");
    let plan = |end: u64, tap: u64| {
        let seed = Seed::default().put([2 | 1 << 4]).words(&[0, end]).put(1_u16.to_le_bytes());
        change(seed.words(&[0x8000, tap, 0x1000]), tap, &cove::tap())
    };
    plan(0x1_0000, cove::TAP_GPA).write("cove_promote", "planned");
    plan(0x1_0000, 0xfff8).write("cove_promote", "tap-beyond-memory");
    plan(1 << 49, cove::TAP_GPA).write("cove_promote", "large");
}
