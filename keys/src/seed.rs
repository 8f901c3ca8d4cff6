//! One seed, and everything derived from it.
//!
//! Derivation is HKDF (RFC 5869) with SHA-512: the salt is the ASCII string `tsmsim keys v1`, the input key material the
//! seed's 32 bytes, and the info the label: each part preceded by its length in bytes as a big-endian `u32`, so that no two
//! labels run into each other. What comes out is as secret as the seed, and one value says nothing about another.
//!
//! # Labels
//!
//! CoVE's CDIs are not derived by labels but as its specification says ([`crate::cove::Cdi`]); only what they begin with is.
//!
//! *line* is `Milan`, `Genoa` or `Turin`; *hwid* the meaningful bytes of the chip identifier (64, on Turin 8); *tcb* the
//! eight bytes of `TCB_VERSION`; *n* one byte that counts candidates from 0.
//!
//! | label | length | what it gives |
//! |---|---|---|
//! | `amd`, *line*, `ark` \| `ask` \| `asvk`, `rsa` | 32 | ChaCha20 key from which the RSA-4096 key is generated |
//! | `amd`, *line*, `ark` \| `ask` \| `asvk`, `salt` | 32 | sub-seed of that key's RSASSA-PSS salts |
//! | `salt`, SHA-384 of the signed bytes (below such a sub-seed) | 32 | ChaCha20 key: salt, then blinding |
//! | `amd`, *line*, `vcek`, *hwid*, *tcb*, *n* | 48 | candidate for the VCEK's P-384 scalar |
//! | `amd`, *line*, `vlek`, CSP_ID, *tcb*, *n* | 48 | candidate for the VLEK's P-384 scalar |
//! | `amd`, *line*, `chip-id` | 64 | the simulator: `CHIP_ID` of a line's first chip |
//! | `amd`, *line*, `chip`, *hwid*, `key-request` | 32 | the simulator: sub-seed of a chip's root keys of MSG_KEY_REQ |
//! | `vcek`, *tcb* (below that sub-seed) | 48 | root key of MSG_KEY_REQ for the VCEK of a TCB version |
//! | `amd`, *line*, `csp`, CSP_ID, `key-request` | 32 | the simulator: sub-seed of a cloud provider's root key of MSG_KEY_REQ |
//! | `vlek` (below that sub-seed) | 48 | root key of MSG_KEY_REQ for the VLEK |
//! | `tsmsim entropy`, *block* (eight bytes, little-endian, from 0) | 32 | the simulator: randomness that a seed determines, block by block |
//! | `tsmsim report`, user data (64) | 32 | `tsmsim report`: sub-seed of the randomness of the guest that it launches |
//! | `intel`, `root` \| `platform-ca` \| `processor-ca` \| `tcb-signing`, *n* | 32 | candidate for that key's P-256 scalar |
//! | `intel`, `pck`, PPID, CPUSVN, PCESVN (two bytes, little-endian), *n* | 32 | candidate for the PCK's P-256 scalar |
//! | `intel`, `attestation`, PPID, CPUSVN, *n* | 32 | candidate for the attestation key's P-256 scalar |
//! | `intel`, `ppid`, *number* (four bytes, little-endian) | 16 | PPID of a made-up platform |
//! | `intel`, `platform-instance`, *number* | 16 | `PlatformInstanceID` of a made-up platform |
//! | `cove`, `root`, *n* | 32 | candidate for the root's P-256 scalar |
//! | `cove`, `uds`, *number* | 32 | unique device secret (UDS) of a device |
//! | `cove`, `p256`, *n* (below a UDS or CDI) | 32 | candidate for that layer's P-256 scalar |

use hkdf::Hkdf;
use rand_chacha::ChaCha20Rng;
use rand_chacha::rand_core::SeedableRng;
use sha2::Sha512;
use zeroize::{Zeroize, ZeroizeOnDrop};

use crate::KeysError;

const SALT: &[u8] = b"tsmsim keys v1";

/// The root secret of a hierarchy: 32 bytes. Wiped when dropped; has no way to be printed or compared by accident.
#[derive(Clone, Zeroize, ZeroizeOnDrop)]
pub struct Seed([u8; 32]);

impl Seed {
    /// The published seed. It is the ASCII text `tsmsim default seed: worthless!!`, so every key derived from it is
    /// known to everyone: evidence signed under it proves nothing.
    pub const DEFAULT: Self = Self(*b"tsmsim default seed: worthless!!");

    /// A seed from its bytes. Give it 32 bytes of entropy unless reproducibility is all you want.
    #[must_use]
    pub const fn from_bytes(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }

    /// A seed from 64 hexadecimal digits, either case, nothing around them.
    ///
    /// # Errors
    /// [`KeysError::SeedText`] for anything else.
    pub fn from_hex(text: &str) -> Result<Self, KeysError> {
        let digits = text.as_bytes();
        if digits.len() != 64 {
            return Err(KeysError::SeedText);
        }
        let mut seed = Self([0; 32]);
        for (byte, pair) in seed.0.iter_mut().zip(digits.chunks_exact(2)) {
            *byte = nibble(pair[0])? << 4 | nibble(pair[1])?;
        }
        Ok(seed)
    }

    /// Whether this is [`Seed::DEFAULT`]. Takes the same time for every seed.
    #[must_use]
    pub fn is_default(&self) -> bool {
        let difference = self.0.iter().zip(Self::DEFAULT.0.iter()).fold(0, |all, (a, b)| all | (a ^ b));
        difference == 0
    }

    /// `N` secret bytes for a label (see the table of labels above).
    #[must_use]
    pub fn derive<const N: usize>(&self, label: &[&[u8]]) -> Secret<N> {
        const { assert!(N <= 255 * 64, "RFC 5869 section 2.3 bounds the output") };
        let lengths: Vec<[u8; 4]> = label.iter().map(|part| length(part)).collect();
        let info: Vec<&[u8]> =
            lengths.iter().zip(label).flat_map(|(length, part)| [length.as_slice(), part]).collect();
        let mut secret = Secret([0; N]);
        let expanded = Hkdf::<Sha512>::new(Some(SALT), &self.0).expand_multi_info(&info, &mut secret.0);
        assert!(expanded.is_ok(), "the length was checked at compile time");
        secret
    }

    /// A seed below this one, for a part that derives secrets of its own.
    #[must_use]
    pub fn derive_seed(&self, label: &[&[u8]]) -> Self {
        Self(*self.derive::<32>(label).expose())
    }

    /// A ChaCha20 stream for a label.
    #[must_use]
    pub fn rng(&self, label: &[&[u8]]) -> ChaCha20Rng {
        ChaCha20Rng::from_seed(*self.derive::<32>(label).expose())
    }
}

/// Length of a label's part, big-endian. Labels are built by this crate's callers and never come near 4 GiB.
fn length(part: &[u8]) -> [u8; 4] {
    u32::try_from(part.len()).unwrap_or(u32::MAX).to_be_bytes()
}

fn nibble(digit: u8) -> Result<u8, KeysError> {
    match digit {
        b'0'..=b'9' => Ok(digit - b'0'),
        b'a'..=b'f' => Ok(digit - b'a' + 10),
        b'A'..=b'F' => Ok(digit - b'A' + 10),
        _ => Err(KeysError::SeedText),
    }
}

/// Secret bytes: wiped when dropped, never printed.
///
/// ```compile_fail
/// let secret = tsmsim_keys::Seed::DEFAULT.derive::<32>(&[b"label"]);
/// println!("{secret:?}");
/// ```
#[derive(Clone, Zeroize, ZeroizeOnDrop)]
pub struct Secret<const N: usize>([u8; N]);

impl<const N: usize> Secret<N> {
    /// The bytes. What the caller copies out of them is the caller's to wipe.
    #[must_use]
    pub const fn expose(&self) -> &[u8; N] {
        &self.0
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use rstest::rstest;

    use super::*;

    #[test]
    fn default_seed_is_its_published_sentence() {
        let hex: String = b"tsmsim default seed: worthless!!".iter().map(|b| format!("{b:02x}")).collect();
        assert!(Seed::from_hex(&hex).unwrap().is_default());
        assert!(Seed::from_hex(&hex.to_uppercase()).unwrap().is_default());
        assert!(!Seed::from_bytes([0; 32]).is_default());
    }

    #[rstest]
    #[case("")]
    #[case("00")]
    #[case("0x00000000000000000000000000000000000000000000000000000000000000")]
    #[case("g000000000000000000000000000000000000000000000000000000000000000")]
    #[case("00000000000000000000000000000000000000000000000000000000000000000")]
    #[case("ééééééééééééééééééééééééééééééé0")]
    fn text_that_is_no_seed(#[case] text: &str) {
        assert!(matches!(Seed::from_hex(text), Err(KeysError::SeedText)));
    }

    /// HKDF written out with the label's bytes spelled by hand, so a change of the construction cannot pass unseen.
    #[test]
    fn derivation_is_hkdf_sha512_over_length_prefixed_parts() {
        let mut expected = [0; 16];
        Hkdf::<Sha512>::new(Some(b"tsmsim keys v1"), b"tsmsim default seed: worthless!!")
            .expand(b"\0\0\0\x03amd\0\0\0\x05Milan", &mut expected)
            .unwrap();
        assert_eq!(Seed::DEFAULT.derive::<16>(&[b"amd", b"Milan"]).expose(), &expected);
    }

    #[rstest]
    #[case(&["ab", "c"], &["a", "bc"])]
    #[case(&["ab"], &["a", "b"])]
    #[case(&["a"], &["a", ""])]
    fn labels_do_not_run_into_each_other(#[case] one: &[&str], #[case] other: &[&str]) {
        let derive = |parts: &[&str]| {
            let label: Vec<&[u8]> = parts.iter().map(|part| part.as_bytes()).collect();
            *Seed::DEFAULT.derive::<32>(&label).expose()
        };
        assert_ne!(derive(one), derive(other));
    }

    proptest! {
        #[test]
        fn hex_round_trip(bytes: [u8; 32]) {
            let hex: String = bytes.iter().map(|b| format!("{b:02x}")).collect();
            prop_assert_eq!(Seed::from_hex(&hex).unwrap().0, bytes);
        }

        #[test]
        fn any_text_is_a_seed_or_an_error(text in ".*") {
            let _ = Seed::from_hex(&text);
        }
    }
}
