//! `get_evidence`.

use tsmsim_abi::{
    cove::{
        covg::{
            ATTESTATION_CERTIFICATE_CBOR, ATTESTATION_CERTIFICATE_X509, CHALLENGE_SIZE, CertificateFormats,
            CovgFid, MAX_PUBLIC_KEY_SIZE,
        },
        sbi::SbiError,
    },
    guest_test::riscv64::{RAM_END, RAM_GPA},
};

use super::super::{
    arch,
    call::Call,
    console::print_blob,
    place::{BEYOND, CHALLENGE, EVIDENCE, EVIDENCE_SIZE, KEY, MMIO, PAGE, SHARED, SHARED_PAGES},
    tap::{Check, Tap, ensure},
    tvm::Tvm,
};

const ADDRESS: SbiError = SbiError::INVALID_ADDRESS;
const PARAM: SbiError = SbiError::INVALID_PARAM;

/// A COSE_Key: EC2 on P-256, the generator of the group (SEC 2, section 2.4.2), so the private key is one.
const PUBLIC_KEY: [u8; 75] = *b"\xa4\x01\x02\x20\x01\x21\x58\x20\
    \x6b\x17\xd1\xf2\xe1\x2c\x42\x47\xf8\xbc\xe6\xe5\x63\xa4\x40\xf2\
    \x77\x03\x7d\x81\x2d\xeb\x33\xa0\xf4\xa1\x39\x45\xd8\x98\xc2\x96\
    \x22\x58\x20\
    \x4f\xe3\x42\xe2\xfe\x1a\x7f\x9b\x8e\xe7\xeb\x4a\x7c\x0f\x9e\x16\
    \x2b\xce\x33\x57\x6b\x31\x5e\xce\xcb\xb6\x40\x68\x37\xbf\x51\xf5";

/// A format, by its bit, name of the blob, and first byte: tag 18 of CBOR, or a SEQUENCE.
type Format = (u64, &'static str, u8);
const FORMATS: [Format; 2] =
    [(ATTESTATION_CERTIFICATE_CBOR, "evidence", 0xd2), (ATTESTATION_CERTIFICATE_X509, "evidence-x509", 0x30)];

/// Evidence for the host, in each format that there is.
pub(in crate::guest) fn wanted(tvm: &Tvm, tap: &mut Tap) {
    for format @ (bit, name, _) in FORMATS {
        let check = match bit {
            ATTESTATION_CERTIFICATE_CBOR => "get_evidence: CBOR, with the TVM's key",
            _ => "get_evidence: X.509, with the TVM's key",
        };
        if !offered(tvm, bit) {
            tap.check(check, call(tvm, bit).refused(PARAM));
            continue;
        }
        let result = get(tvm, format, call(tvm, bit));
        if let Ok(length) = &result {
            print_blob(name, EVIDENCE, *length);
        }
        tap.check(check, result.map(drop));
    }
}

pub(super) fn run(tvm: &Tvm, tap: &mut Tap) {
    for format @ (bit, ..) in FORMATS.into_iter().filter(|(bit, ..)| offered(tvm, *bit)) {
        let names = match bit {
            ATTESTATION_CERTIFICATE_CBOR => [
                "get_evidence: CBOR, with a key of the guest's",
                "get_evidence: CBOR, into shared memory",
                "get_evidence: CBOR, buffer too small",
                "get_evidence: CBOR, buffer just large enough",
            ],
            _ => [
                "get_evidence: X.509, with a key of the guest's",
                "get_evidence: X.509, into shared memory",
                "get_evidence: X.509, buffer too small",
                "get_evidence: X.509, buffer just large enough",
            ],
        };
        tap.check(names[0], own_key(tvm, format));
        tap.check(names[1], into_shared(tvm, format));
        tap.check(names[2], too_small(tvm, format));
        tap.check(names[3], just_enough(tvm, format));
    }
    refusals(tvm, tap);
}

fn refusals(tvm: &Tvm, tap: &mut Tap) {
    let format = FORMATS.iter().map(|(bit, ..)| *bit).find(|bit| offered(tvm, *bit)).unwrap_or(0);
    let call = call(tvm, format);
    for (name, position, value, error) in [
        ("get_evidence: unaligned key", 0, KEY + 8, ADDRESS),
        ("get_evidence: unaligned challenge", 2, CHALLENGE + 8, ADDRESS),
        ("get_evidence: unaligned output", 4, EVIDENCE + 8, ADDRESS),
        ("get_evidence: key below the TVM's memory", 0, RAM_GPA, ADDRESS),
        ("get_evidence: challenge behind RAM", 2, RAM_END, ADDRESS),
        ("get_evidence: output beyond the address space", 4, BEYOND, ADDRESS),
        ("get_evidence: output behind RAM", 4, RAM_END, ADDRESS),
        ("get_evidence: output where there is nothing", 4, MMIO, ADDRESS),
        ("get_evidence: size of the output beyond the address space", 5, BEYOND, ADDRESS),
        ("get_evidence: output across the end of RAM", 4, RAM_END - PAGE, ADDRESS),
        ("get_evidence: key in shared memory", 0, SHARED, PARAM),
        ("get_evidence: challenge in shared memory", 2, SHARED, PARAM),
        ("get_evidence: key too large", 1, MAX_PUBLIC_KEY_SIZE as u64 + 1, PARAM),
        ("get_evidence: no size", 5, 0, PARAM),
        ("get_evidence: no format", 3, 0, PARAM),
        ("get_evidence: both formats", 3, 3, PARAM),
        ("get_evidence: unknown format", 3, 4, PARAM),
        ("get_evidence: format of 64 bits", 3, 1 << 32, PARAM),
    ] {
        tap.check(name, call.with(position, value).refused(error));
    }
    for (name, change) in [
        ("get_evidence: key that is no CBOR", (0, 0xff)),
        ("get_evidence: key of an unknown curve", (4, 0x17)),
        ("get_evidence: key of an unknown type", (2, 0x04)),
    ] {
        tap.check(name, bad_key(tvm, format, change));
    }
    let call = with_key(tvm, format, &PUBLIC_KEY);
    tap.check("get_evidence: key cut off", call.with(1, 74).refused(PARAM));
    tap.check("get_evidence: key with more behind it", call.with(1, 76).refused(PARAM));
}

fn offered(tvm: &Tvm, format: u64) -> bool {
    let formats = CertificateFormats::from(tvm.capabilities.certificate_formats.get());
    match format {
        ATTESTATION_CERTIFICATE_CBOR => formats.cbor(),
        _ => formats.x509(),
    }
}

/// The host's challenge and no key.
fn call(tvm: &Tvm, format: u64) -> Call {
    arch::write(CHALLENGE, &tvm.parameters.report_data);
    Call::covg(CovgFid::GET_EVIDENCE).arguments(&[KEY, 0, CHALLENGE, format, EVIDENCE, EVIDENCE_SIZE])
}

fn with_key(tvm: &Tvm, format: u64, key: &[u8; 75]) -> Call {
    arch::write(KEY, key);
    call(tvm, format).with(1, key.len() as u64)
}

/// Makes the call and looks at what came; gives its length.
fn get(tvm: &Tvm, format: Format, call: Call) -> Check<u64> {
    let length = call.succeed()?;
    ensure!(length != 0 && length <= EVIDENCE_SIZE, "{length} bytes");
    judge(tvm, format, EVIDENCE, length)?;
    Ok(length)
}

fn judge(tvm: &Tvm, (_, _, first): Format, gpa: u64, length: u64) -> Check {
    let mut byte = [0];
    arch::read(gpa, &mut byte);
    ensure!(byte == [first], "it begins with {:#x}", byte[0]);
    ensure!(contains(gpa, length, &tvm.parameters.report_data), "the challenge is not in it");
    let [initial, runtime] = tvm.registers();
    for index in 0..initial + runtime {
        let value = tvm.register(index)?;
        ensure!(contains(gpa, length, &value[..tvm.digest_size]), "register {index} is not in it");
    }
    Ok(())
}

fn contains(gpa: u64, length: u64, wanted: &[u8]) -> bool {
    let mut window = [0; CHALLENGE_SIZE];
    let Some(window) = window.get_mut(..wanted.len()) else { return false };
    let mut first = [0];
    (gpa..gpa + length.saturating_sub(wanted.len() as u64) + 1).any(|at| {
        arch::read(at, &mut first);
        first[0] == wanted[0] && {
            arch::read(at, window);
            window == wanted
        }
    })
}

fn own_key(tvm: &Tvm, format: Format) -> Check {
    let length = get(tvm, format, with_key(tvm, format.0, &PUBLIC_KEY))?;
    // The coordinate stands in either encoding of the key.
    ensure!(contains(EVIDENCE, length, &PUBLIC_KEY[8..40]), "the key is not in it");
    Ok(())
}

fn into_shared(tvm: &Tvm, format: Format) -> Check {
    let length = call(tvm, format.0).with(4, SHARED).with(5, SHARED_PAGES * PAGE).succeed()?;
    judge(tvm, format, SHARED, length)
}

/// Nothing is written of what does not fit.
fn too_small(tvm: &Tvm, (bit, ..): Format) -> Check {
    let length = call(tvm, bit).succeed()?;
    arch::write(EVIDENCE, &[0x5a; 64]);
    call(tvm, bit).with(5, length / 2).refused(PARAM)?;
    let mut bytes = [0; 64];
    arch::read(EVIDENCE, &mut bytes);
    ensure!(bytes == [0x5a; 64], "something is written");
    Ok(())
}

/// The output may end anywhere. Signatures in DER vary by a few bytes.
fn just_enough(tvm: &Tvm, format @ (bit, ..): Format) -> Check {
    let length = call(tvm, bit).succeed()?;
    get(tvm, format, call(tvm, bit).with(5, length + 8)).map(drop)
}

fn bad_key(tvm: &Tvm, format: u64, (position, byte): (usize, u8)) -> Check {
    let mut key = PUBLIC_KEY;
    key[position] = byte;
    with_key(tvm, format, &key).refused(PARAM)
}
