//! `retrieve_secret`. Only a TVM that was promoted with an attestation payload has a secret.

use tsmsim_abi::{
    cove::{covg::CovgFid, sbi::SbiError},
    guest_test::riscv64::{RAM_END, RAM_GPA},
};

use super::super::{
    arch,
    call::Call,
    console::print_blob,
    place::{BEYOND, PAGE, SECRET, SHARED},
    tap::{Check, Tap, ensure},
    tvm::Tvm,
};

const PARAM: SbiError = SbiError::INVALID_PARAM;

pub(super) fn run(tvm: &Tvm, tap: &mut Tap) {
    let call = Call::covg(CovgFid::RETRIEVE_SECRET).arguments(&[SECRET, PAGE]);
    if tvm.parameters.secrets_gpa.get() == 0 {
        tap.check("retrieve_secret: there was no TAP", call.refused(SbiError::AUTH));
    } else {
        retrieved(call, tap);
    }
    for (name, position, value, error) in [
        ("retrieve_secret: unaligned address", 0, SECRET + 8, SbiError::INVALID_ADDRESS),
        ("retrieve_secret: shared memory", 0, SHARED, SbiError::INVALID_ADDRESS),
        ("retrieve_secret: below the TVM's memory", 0, RAM_GPA, SbiError::INVALID_ADDRESS),
        ("retrieve_secret: behind RAM", 0, RAM_END, SbiError::INVALID_ADDRESS),
        ("retrieve_secret: beyond the address space", 0, BEYOND, SbiError::INVALID_ADDRESS),
        ("retrieve_secret: more than a page", 1, PAGE + 1, PARAM),
    ] {
        tap.check(name, call.with(position, value).refused(error));
    }
}

fn retrieved(call: Call, tap: &mut Tap) {
    let size = match first(call) {
        Ok(size) => size,
        Err(why) => return tap.check("retrieve_secret", Err(why)),
    };
    tap.check("retrieve_secret", Ok(()));
    print_blob("secret", SECRET, size);
    tap.check("retrieve_secret: a second time", again(call, size));
    tap.check("retrieve_secret: no more room than it needs", again(call.with(1, size), size));
    tap.check("retrieve_secret: buffer too small", small(call.with(1, size - 1)));
    tap.check("retrieve_secret: no buffer", small(call.with(1, 0)));
}

/// The secret in a page of zeros: its size.
fn first(call: Call) -> Check<u64> {
    let size = call.succeed()?;
    ensure!(size != 0 && size <= PAGE, "its size is {size}");
    for gpa in SECRET + size..SECRET + PAGE {
        let mut byte = [0];
        arch::read(gpa, &mut byte);
        ensure!(byte == [0], "byte {gpa:#x} behind it was written");
    }
    Ok(size)
}

/// It is the same in another place too.
fn again(call: Call, size: u64) -> Check {
    let other = SECRET + PAGE;
    for gpa in other..other + size {
        arch::write(gpa, &[0x5a]);
    }
    call.with(0, other).gives(size)?;
    for offset in 0..size {
        let mut bytes = [[0]; 2];
        arch::read(SECRET + offset, &mut bytes[0]);
        arch::read(other + offset, &mut bytes[1]);
        ensure!(bytes[0] == bytes[1], "byte {offset} differs");
    }
    Ok(())
}

/// Nothing is written.
fn small(call: Call) -> Check {
    let marked = [0x5a; 8];
    arch::write(SECRET, &marked);
    call.refused(PARAM)?;
    let mut bytes = [0; 8];
    arch::read(SECRET, &mut bytes);
    ensure!(bytes == marked, "something was written");
    Ok(())
}
