//! Values as the kernel's library parses them.

use nix::errno::Errno;

/// The string that a kernel function sees in a buffer that ends with a zero: what follows an earlier zero is lost.
pub(super) fn c_string(bytes: &[u8]) -> &[u8] {
    bytes.split(|&byte| byte == 0).next().unwrap_or(bytes)
}

/// `kstrtouint(text, 0, …)` of `lib/kstrtox.c`: one optional `+`, then `0x` for base 16, `0` for base 8, else base 10,
/// then at most one newline.
///
/// # Errors
/// ERANGE when the digits exceed 64 bits, whatever follows them, or 32 bits in a text that is otherwise right; EINVAL for
/// any other text.
pub(super) fn kstrtouint(text: &[u8]) -> Result<u32, Errno> {
    let text = c_string(text);
    let text = text.strip_prefix(b"+").unwrap_or(text);
    let (base, text) = match text {
        [b'0', b'x' | b'X', rest @ ..] if rest.first().is_some_and(u8::is_ascii_hexdigit) => (16, rest),
        [b'0', ..] => (8, text),
        _ => (10, text),
    };
    let mut value = Some(0_u64);
    let mut rest = text;
    while let [digit, tail @ ..] = rest {
        let Some(digit) = char::from(*digit).to_digit(base) else {
            break;
        };
        let shifted = value.and_then(|value| value.checked_mul(u64::from(base)));
        value = shifted.and_then(|value| value.checked_add(u64::from(digit)));
        rest = tail;
    }
    let value = value.ok_or(Errno::ERANGE)?;
    if rest.len() == text.len() || !matches!(rest, b"" | b"\n") {
        return Err(Errno::EINVAL);
    }
    u32::try_from(value).map_err(|_| Errno::ERANGE)
}

/// The length of a UUID in text: `UUID_STRING_LEN`.
const UUID_STRING_LEN: usize = 36;

/// `guid_parse` of `lib/uuid.c`: the first 36 characters, in the byte order of memory; what follows is not looked at.
///
/// # Errors
/// EINVAL unless they are `xxxxxxxx-xxxx-xxxx-xxxx-xxxxxxxxxxxx`.
pub(super) fn guid_parse(text: &[u8]) -> Result<[u8; 16], Errno> {
    let text = c_string(text).get(..UUID_STRING_LEN).ok_or(Errno::EINVAL)?;
    let mut digits = Vec::with_capacity(32);
    for (position, &byte) in text.iter().enumerate() {
        match (position, byte) {
            (8 | 13 | 18 | 23, b'-') => {}
            (8 | 13 | 18 | 23, _) => return Err(Errno::EINVAL),
            _ => {
                let digit = char::from(byte).to_digit(16).ok_or(Errno::EINVAL)?;
                digits.push(u8::try_from(digit).map_err(|_| Errno::EINVAL)?);
            }
        }
    }
    let mut guid = [0; 16];
    for (pair, place) in digits.chunks_exact(2).zip(GUID_INDEX) {
        guid[place] = (pair[0] << 4) | pair[1];
    }
    Ok(guid)
}

/// Where the bytes of the text stand in memory: the first three fields are little-endian (`guid_index`).
const GUID_INDEX: [usize; 16] = [3, 2, 1, 0, 5, 4, 7, 6, 8, 9, 10, 11, 12, 13, 14, 15];

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;

    #[rstest]
    #[case(b"0", Ok(0))]
    #[case(b"3\n", Ok(3))]
    #[case(b"+3\n", Ok(3))]
    #[case(b"0x3", Ok(3))]
    #[case(b"+0X1f\n", Ok(31))]
    #[case(b"010", Ok(8))]
    #[case(b"00", Ok(0))]
    #[case(b"4294967295", Ok(u32::MAX))]
    #[case(b"0xffffffff", Ok(u32::MAX))]
    #[case(b"037777777777", Ok(u32::MAX))]
    #[case(b"1\0what is here does not count", Ok(1))]
    #[case(b"0x00000000000000000000000000000001", Ok(1))]
    #[case(b"4294967296", Err(Errno::ERANGE))]
    #[case(b"18446744073709551615", Err(Errno::ERANGE))]
    #[case(b"18446744073709551616", Err(Errno::ERANGE))]
    // The overflow of 64 bits is found before what follows is looked at; that of 32 bits is not.
    #[case(b"18446744073709551616 and more", Err(Errno::ERANGE))]
    #[case(b"4294967296 and more", Err(Errno::EINVAL))]
    #[case(b"", Err(Errno::EINVAL))]
    #[case(b"\0", Err(Errno::EINVAL))]
    #[case(b"\n", Err(Errno::EINVAL))]
    #[case(b"+", Err(Errno::EINVAL))]
    #[case(b"++1", Err(Errno::EINVAL))]
    #[case(b"-1", Err(Errno::EINVAL))]
    #[case(b" 1", Err(Errno::EINVAL))]
    #[case(b"1 ", Err(Errno::EINVAL))]
    #[case(b"1\n\n", Err(Errno::EINVAL))]
    #[case(b"1\r\n", Err(Errno::EINVAL))]
    #[case(b"0x", Err(Errno::EINVAL))]
    #[case(b"0xg", Err(Errno::EINVAL))]
    #[case(b"08", Err(Errno::EINVAL))]
    #[case(b"1f", Err(Errno::EINVAL))]
    #[case(b"\xb2", Err(Errno::EINVAL))]
    fn numbers_are_read_as_by_kstrtouint(#[case] text: &[u8], #[case] expected: Result<u32, Errno>) {
        assert_eq!(kstrtouint(text), expected);
    }

    #[rstest]
    #[case(b"00112233-4455-6677-8899-aabbccddeeff", true)]
    #[case(b"00112233-4455-6677-8899-AABBCCDDEEFF\n", true)]
    #[case(b"00112233-4455-6677-8899-aabbccddeeffTAIL", true)]
    #[case(b"00112233-4455-6677-8899-aabbccddeef", false)]
    #[case(b"00112233-4455-6677-8899-aabbccddee\0f", false)]
    #[case(b"00112233x4455-6677-8899-aabbccddeeff", false)]
    #[case(b"{0112233-4455-6677-8899-aabbccddeeff}", false)]
    #[case(b" 0112233-4455-6677-8899-aabbccddeeff", false)]
    #[case(b"00112233-4455-6677-8899-aabbccddee-f", false)]
    #[case(b"", false)]
    fn guids_are_read_as_by_guid_parse(#[case] text: &[u8], #[case] right: bool) {
        let guid =
            [0x33, 0x22, 0x11, 0x00, 0x55, 0x44, 0x77, 0x66, 0x88, 0x99, 0xaa, 0xbb, 0xcc, 0xdd, 0xee, 0xff];
        assert_eq!(guid_parse(text), if right { Ok(guid) } else { Err(Errno::EINVAL) });
    }
}
