//! `extend_measurement`, `read_measurement`.

use tsmsim_abi::{
    cove::{attcaps::MAX_DIGEST_SIZE, covg::CovgFid, sbi::SbiError},
    guest_test::riscv64::{RAM_END, RAM_GPA},
};

use super::super::{
    arch,
    call::Call,
    console::print_blob,
    place::{BEYOND, DIGEST, PAGE, SHARED, SPARE},
    tap::{Check, Tap, Why, ensure},
    tvm::{Tvm, Value},
};

const ADDRESS: SbiError = SbiError::INVALID_ADDRESS;
const PARAM: SbiError = SbiError::INVALID_PARAM;

pub(super) fn run(tvm: &Tvm, tap: &mut Tap) {
    tap.check("read_measurement: initial registers hold something", held(tvm));
    tap.check("read_measurement: runtime registers begin as zero", zero(tvm));
    tap.check("extend_measurement: each runtime register", extend_all(tvm));
    tap.check("extend_measurement: each once more", extend_all(tvm));
    tap.check("extend_measurement: a page that was never used", from_fresh_page(tvm));
    refused_extensions(tvm, tap);
    refused_readings(tvm, tap);
    tap.check("measurements", print(tvm));
}

fn refused_extensions(tvm: &Tvm, tap: &mut Tap) {
    let [initial, runtime] = tvm.registers();
    let extend = tvm.extend(initial, &[7; MAX_DIGEST_SIZE]);
    let size = tvm.digest_size as u64;
    for (name, position, value) in [
        ("extend_measurement: first initial register", 2, 0),
        ("extend_measurement: last initial register", 2, initial - 1),
        ("extend_measurement: no such register", 2, initial + runtime),
        ("extend_measurement: index of 64 bits", 2, 1 << 32),
        ("extend_measurement: digest too short", 1, size - 1),
        ("extend_measurement: digest too long", 1, size + 1),
        ("extend_measurement: no digest", 1, 0),
    ] {
        tap.check(name, extend.with(position, value).refused(PARAM));
    }
    let unaligned = extend.with(0, DIGEST + 8);
    tap.check("extend_measurement: unaligned address", unaligned.refused(ADDRESS));
    // Where memory lies is looked at last, so it takes a register that can be extended.
    let error = if runtime == 0 { PARAM } else { ADDRESS };
    for (name, gpa) in [
        ("extend_measurement: shared memory", SHARED),
        ("extend_measurement: below the TVM's memory", RAM_GPA),
        ("extend_measurement: behind RAM", RAM_END),
        ("extend_measurement: beyond the address space", BEYOND),
    ] {
        tap.check(name, extend.with(0, gpa).refused(error));
    }
}

fn refused_readings(tvm: &Tvm, tap: &mut Tap) {
    let [initial, runtime] = tvm.registers();
    let size = tvm.digest_size as u64;
    let read = Call::covg(CovgFid::READ_MEASUREMENT).arguments(&[DIGEST, size, 0]);
    tap.check("read_measurement: a larger buffer", read.with(1, 2 * PAGE).gives(size));
    for (name, position, value, error) in [
        ("read_measurement: no such register", 2, initial + runtime, PARAM),
        ("read_measurement: index of 64 bits", 2, 1 << 32, PARAM),
        ("read_measurement: buffer too small", 1, size - 1, PARAM),
        ("read_measurement: no buffer", 1, 0, PARAM),
        ("read_measurement: unaligned address", 0, DIGEST + 8, ADDRESS),
        ("read_measurement: shared memory", 0, SHARED, PARAM),
        ("read_measurement: below the TVM's memory", 0, RAM_GPA, ADDRESS),
        ("read_measurement: behind RAM", 0, RAM_END, ADDRESS),
        ("read_measurement: beyond the address space", 0, BEYOND, ADDRESS),
    ] {
        tap.check(name, read.with(position, value).refused(error));
    }
}

/// As many readings as the host wants.
pub(in crate::guest) fn repeat(tvm: &Tvm, count: u32) -> Check {
    let first = tvm.register(0)?;
    for number in 1..count {
        ensure!(tvm.register(0)? == first, "reading {number} differs");
    }
    Ok(())
}

fn held(tvm: &Tvm) -> Check {
    let [initial, _] = tvm.registers();
    for index in 0..initial {
        ensure!(tvm.register(index)? != [0; MAX_DIGEST_SIZE], "register {index} is zero");
    }
    Ok(())
}

fn zero(tvm: &Tvm) -> Check {
    let [initial, runtime] = tvm.registers();
    for index in initial..initial + runtime {
        ensure!(tvm.register(index)? == [0; MAX_DIGEST_SIZE], "register {index} is not zero");
    }
    Ok(())
}

/// A register is extended, it and no other.
fn extend_all(tvm: &Tvm) -> Check {
    let [initial, runtime] = tvm.registers();
    let first = tvm.register(0)?;
    for index in initial..initial + runtime {
        let [byte, ..] = index.to_le_bytes();
        extend(tvm, index, &[byte ^ 0x5a; MAX_DIGEST_SIZE])?;
    }
    ensure!(tvm.register(0)? == first, "an initial register changed");
    Ok(())
}

fn extend(tvm: &Tvm, index: u64, digest: &Value) -> Check {
    let before = tvm.register(index)?;
    tvm.extend(index, digest).gives(0)?;
    let after = tvm.register(index)?;
    match tvm.extended(&before, digest) {
        Some(expected) => ensure!(after == expected, "register {index} is not what was measured"),
        None => ensure!(after != before, "register {index} did not change"),
    }
    Ok(())
}

/// A page that is not mapped reads as zeros.
fn from_fresh_page(tvm: &Tvm) -> Check {
    let [initial, runtime] = tvm.registers();
    if runtime == 0 {
        return Ok(());
    }
    let before = tvm.register(initial)?;
    let call = Call::covg(CovgFid::EXTEND_MEASUREMENT);
    call.arguments(&[SPARE + 6 * PAGE, tvm.digest_size as u64, initial]).gives(0)?;
    let expected = tvm.extended(&before, &[0; MAX_DIGEST_SIZE]);
    let after = tvm.register(initial)?;
    ensure!(expected.is_none_or(|expected| expected == after), "it did not read as zeros");
    Ok(())
}

/// All registers, one behind the other.
fn print(tvm: &Tvm) -> Check {
    let [initial, runtime] = tvm.registers();
    let size = tvm.digest_size as u64;
    for index in 0..initial + runtime {
        let value = tvm.register(index)?;
        arch::write(SPARE + index * size, &value[..tvm.digest_size]);
    }
    let length = (initial + runtime) * size;
    if length > 4 * PAGE {
        return Err(Why::new(format_args!("{length} bytes")));
    }
    print_blob("measurements", SPARE, length);
    Ok(())
}
