//! Claims of evidence (`attestation.adoc`, "Evidence Format"), with one choice for each label that the specification leaves
//! open; and every other choice made where it is open, as one table.

/// EAT `submods`: `{266: {"platform", "tsm", "tvm"}}`.
pub const SUBMODULES: i64 = 266;
/// Submodule of the platform token.
pub const SUBMODULE_PLATFORM: &str = "platform";
/// Submodule of the TSM token.
pub const SUBMODULE_TSM: &str = "tsm";
/// Submodule of the TVM token.
pub const SUBMODULE_TVM: &str = "tvm";

/// CWT `iss`.
pub const ISSUER: i64 = 1;
/// CWT `sub`.
pub const SUBJECT: i64 = 2;
/// EAT nonce: the challenge.
pub const TVM_CHALLENGE: i64 = 10;
/// EAT profile.
pub const EAT_PROFILE: i64 = 265;
/// The profile's only value; the specification has "TBD" in it.
pub const EAT_PROFILE_VALUE: &str = "https://riscv.org/TBD";

/// A claim's label.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct OpenLabel {
    /// The specification's name, without `-label`.
    pub name: &'static str,
    /// The number chosen.
    pub label: i64,
    /// Where it stands.
    pub token: &'static str,
}

macro_rules! open_labels {
    ($( $(#[$meta:meta])* $konst:ident = $label:literal, $name:literal, $token:literal; )*) => {
        $( $(#[$meta])* pub const $konst: i64 = $label; )*

        /// Every label that the specification leaves "TBD". The numbers are for private use (RFC 8392 section 9.1: below
        /// -65536). Where another implementation (HiSA-Team/shadowfax) has a number already, it is the same.
        pub const OPEN_LABELS: &[OpenLabel] =
            &[ $( OpenLabel { name: $name, label: $konst, token: $token } ),* ];
    };
}

open_labels! {
    /// bstr holding a COSE_Key: verifies the TSM token.
    PLATFORM_PUBLIC_KEY = -70000, "platform-public-key", "platform";
    /// bstr of 64 bytes.
    PLATFORM_MANUFACTURER_ID = -70001, "platform-manufacturer-id", "platform";
    /// A [`PlatformState`].
    PLATFORM_STATE = -70002, "platform-state", "platform";
    /// Array of one or more components (see [`component`]).
    PLATFORM_SW_COMPONENTS = -70003, "platform-sw-components", "platform";
    /// bstr holding a COSE_Key: verifies the TVM token and the certificate.
    TSM_PUBLIC_KEY = -70004, "tsm-public-key", "tsm";
    /// bstr holding a COSE_Key: what the TVM gave.
    TVM_PUBLIC_KEY = -70005, "tvm-public-key", "tvm";
    /// Array of one to eight measurements (see [`measurement`]).
    TVM_INITIAL_MEASUREMENTS = -70006, "tvm-initial-measurements", "tvm";
    /// Array of exactly two components: TSM-driver, TSM.
    TSM_SW_COMPONENTS = -70007, "tsm-sw-components", "tsm";
    /// bstr of 64 bytes; only if the host gave an identity.
    TVM_IDENTITY = -70008, "tvm-identity", "tvm";
    /// Array of one to eighteen measurements; left out where there are no runtime registers.
    TVM_RUNTIME_MEASUREMENTS = -70009, "tvm-runtime-measurements", "tvm";
    /// The map of submodules within a CBOR certificate.
    EVIDENCE = -70010, "evidence", "certificate";
}

open_codes! {
    /// `platform-state`.
    pub struct PlatformState(u64);
    /// More information is needed to operate.
    NOT_CONFIGURED = 1;
    /// Regular operation.
    SECURED = 2;
    /// Can be debugged.
    DEBUG = 3;
    /// Recovers from a failure.
    RECOVERY = 4;
}

/// Labels within `riscv-cove-sw-component`.
pub mod component {
    /// Text: type.
    pub const TYPE: i64 = 1;
    /// bstr: measurement.
    pub const MEASUREMENT: i64 = 2;
    /// Text: security version number, here decimal.
    pub const SVN: i64 = 3;
    /// bstr, optional: hash of the manifest.
    pub const MANIFEST: i64 = 4;
    /// bstr: hash of the signer's public key.
    pub const SIGNER: i64 = 5;
    /// Text: hash algorithm, by IANA's name.
    pub const HASH_ALGORITHM: i64 = 6;
}

/// Labels within `riscv-cove-measurement`.
pub mod measurement {
    /// uint: register index.
    pub const INDEX: i64 = 1;
    /// bstr: value.
    pub const VALUE: i64 = 2;
    /// Text: hash algorithm, by IANA's name.
    pub const HASH_ALGORITHM: i64 = 3;
}

/// What initial register holds what: the specification's example of six.
pub mod register {
    /// Platform firmware and TSM-driver: their measurements.
    pub const PLATFORM_FIRMWARE: usize = 0;
    /// Their manifests.
    pub const PLATFORM_CONFIGURATION: usize = 1;
    /// The TSM's measurement.
    pub const TSM_SOFTWARE: usize = 2;
    /// Its manifest.
    pub const TSM_CONFIGURATION: usize = 3;
    /// Measured pages.
    pub const TVM_PAGES: usize = 4;
    /// Entry point and argument.
    pub const TVM_CONFIGURATION: usize = 5;
    /// How many there are.
    pub const COUNT: usize = 6;
}

/// Bytes of a manufacturer identifier.
pub const MANUFACTURER_ID_SIZE: usize = 64;
/// Bytes of a CDI: the KDF's output.
pub const CDI_SIZE: usize = 32;
/// Bytes of a CDI identifier. Twenty, so that it fits a certificate's serial number; the first bit is zero and the eighth
/// one, so that it is a positive INTEGER of exactly this length (as in Open DICE).
pub const CDI_ID_SIZE: usize = 20;

/// A choice where the specification is open.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Choice {
    /// What was open.
    pub what: &'static str,
    /// What was chosen.
    pub choice: &'static str,
    /// Why.
    pub reason: &'static str,
}

const fn choice(what: &'static str, choice: &'static str, reason: &'static str) -> Choice {
    Choice { what, choice, reason }
}

/// Every choice but the labels ([`OPEN_LABELS`]).
pub const CHOICES: &[Choice] = &[
    choice(
        "numbers of SBI_ERR_AUTH, BUSY, OUT_OF_MEMORY, OUT_OF_PTPAGES",
        "-1001, -1002, -1003, -1004; configurable",
        "named without numbers; far from the standard errors, which grow downwards from -1",
    ),
    choice(
        "unknown function IDs, reserved bits in a6",
        "SBI_ERR_NOT_SUPPORTED; the SDID field is ignored",
        "the rule of the SBI; the SDID is the root domain manager's",
    ),
    choice(
        "value returned by functions 6, 8, 9, 10",
        "bytes written",
        "Salus and shadowfax do so for evidence; a caller cannot know the length otherwise",
    ),
    choice("value returned by function 7", "0", "nothing is written"),
    choice(
        "range that ends beyond the guest-physical address space; buffer of functions 6 to 10 in no region",
        "SBI_ERR_INVALID_ADDRESS",
        "the address is invalid whatever the length",
    ),
    choice(
        "length of functions 0 and 1 that is zero or not a multiple of 4 KiB, overlap",
        "SBI_ERR_INVALID_ADDRESS",
        "the only code listed for a bad range",
    ),
    choice(
        "length of functions 2 and 3 that is zero",
        "SBI_ERR_INVALID_PARAM",
        "the code listed for region_len",
    ),
    choice(
        "removal of an MMIO range that overlaps no region",
        "SBI_SUCCESS",
        "every overlapping region is gone",
    ),
    choice(
        "contents of shared and unshared memory",
        "zeros",
        "pages are removed and others put there; nothing of the old ones may show",
    ),
    choice("interrupt identities", "1 to 2047, and 2^64-1 for all", "the range of the AIA specification"),
    choice(
        "digest of the wrong length for function 7",
        "SBI_ERR_INVALID_PARAM",
        "no code is listed; it is not the address",
    ),
    choice(
        "digest for function 7 in memory that is not confidential",
        "SBI_ERR_INVALID_ADDRESS",
        "the code listed for msmt_buf_addr; INVALID_PARAM is the index's there",
    ),
    choice(
        "output of function 8",
        "confidential or shared memory",
        "only key and challenge have to be confidential",
    ),
    choice(
        "output buffer of function 8 too small",
        "SBI_ERR_INVALID_PARAM, nothing written",
        "the code listed for cert_size",
    ),
    choice(
        "secret's buffer for function 9",
        "confidential memory, otherwise SBI_ERR_INVALID_ADDRESS",
        "a secret must not go to the host; no code for it is listed but that of the address",
    ),
    choice(
        "function 9 without a TAP",
        "SBI_ERR_AUTH, after the checks of address and largest size",
        "there was no successful local attestation",
    ),
    choice(
        "encoding of the public key for function 8",
        "a CBOR COSE_Key: EC2 on P-256 or P-384, OKP Ed25519 or X25519; at most 4096 bytes",
        "the claim holds a COSE_Key as given; these kinds can stand in a certificate too",
    ),
    choice(
        "public key size of zero for function 8",
        "the TVM's own CDI public key",
        "a guest that has no key, as Linux's report interface has none, still gets evidence",
    ),
    choice("bytes of the challenge for function 8", "64", "the claim is bytes .size 64"),
    choice(
        "register index",
        "position in AttestationCapabilities.msmt_regs, initial registers first",
        "the PCR is a field of the descriptor there",
    ),
    choice("initial registers", "six, as in the specification's example", "implementation specific"),
    choice(
        "runtime registers",
        "18, the n-th standing for PCR n, the last for PCR 23; configurable",
        "the PCRs that a descriptor may name are just as many",
    ),
    choice("start value of registers", "zeros", "as Salus"),
    choice("layout of a measured page", "M' = H(M || GPA, little-endian u64 || 4096 bytes)", "as Salus"),
    choice(
        "layout of entry point and argument at finalize",
        "two extends of register 5: entry_sepc, entry_arg, each a little-endian u64",
        "as Salus",
    ),
    choice(
        "hash of measured pages where the capabilities report another than SHA-384",
        "the reported one",
        "every descriptor must name the reported one",
    ),
    choice(
        "registers 0 to 3",
        "extended with the components' hashes as they stand in the tokens, in order: 0 measurements and 1 manifests of platform and TSM-driver, 2 measurement and 3 manifest of the TSM",
        "a verifier can compute them from the tokens",
    ),
    choice(
        "measurement at promote_to_tvm",
        "all pages of memory in ascending order as measured pages, then entry_sepc and fdt_addr as at finalize",
        "the text says only that the whole state is measured",
    ),
    choice(
        "bytes of the TAP at promote_to_tvm",
        "measured as zeros, and zeros in the TVM",
        "the TAP is part of the image and names its measurement; so all else in its pages is measured, and the TVM has what was measured wherever the host put the TAP",
    ),
    choice("TAP", "a format of ours, sealed to the TSM's CDI", "its format is not given"),
    choice(
        "KDF of CDIs",
        "HKDF-SHA-512: no salt, key material CDI || H, info \"CoVE CDI\", 32 bytes",
        "not fixed; HKDF is what DICE implementations use",
    ),
    choice(
        "H(Meas(TCB))",
        "registers' way: from zeros, extended with each component's measurement and then its manifest if any; for the TVM with each initial register",
        "the text speaks of an extended hash",
    ),
    choice(
        "AsymKDF",
        "Ed25519: HKDF-SHA-512, key material CDI, info \"CoVE Ed25519\", 32 bytes; P-256: candidates by the label table of the keys crate below the CDI",
        "not fixed",
    ),
    choice(
        "KDF of CDI identifiers",
        "HKDF-SHA-512: no salt, key material the public key (32 bytes, or the uncompressed point), info \"CoVE CDI_ID\", 20 bytes, first bit cleared, eighth set",
        "fits a serial number; as Open DICE",
    ),
    choice(
        "algorithms",
        "CBOR: EdDSA with Ed25519 in every layer; X.509: ES256 in the tokens, ecdsa-with-SHA512 on P-256 for certificates",
        "recommended; the 64-byte remark fits P-256; two keys from each CDI, so a CDI_ID belongs to a format",
    ),
    choice(
        "kid of the platform token",
        "UDS_ID, 20 bytes, protected",
        "names the key that an endorsement has to provide",
    ),
    choice(
        "tag 18 of a CBOR certificate",
        "around a COSE_Sign1 array, whose payload holds tag 61",
        "the prose; the CDDL leaves the array out",
    ),
    choice("riscv-cove-hash-type", "bstr", "used, never defined"),
    choice(
        "endorsement of the RoT key",
        "X.509 under a manufacturer's root of P-256 with SHA-256; its list can revoke RoT certificates",
        "asserted by an Endorser, no form given",
    ),
    choice(
        "names in certificates",
        "one attribute serialNumber (2.5.4.5), UTF8String, the CDI_ID in lower-case hexadecimal",
        "as Open DICE",
    ),
    choice(
        "subjectPublicKeyInfo of the X.509 certificate",
        "the key that the TVM gave",
        "it \"will be included in the generated certificate\"",
    ),
    choice(
        "extnValue of the UCCS extension",
        "the CBOR itself: tag 601 around the map of submodules",
        "the CDDL says so; the SEQUENCE of TCG's type is not mentioned",
    ),
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn eleven_labels_are_open_and_private() {
        assert_eq!(OPEN_LABELS.len(), 11);
        for (index, open) in OPEN_LABELS.iter().enumerate() {
            assert!(open.label < -65536, "{}", open.name);
            let others = OPEN_LABELS.iter().skip(index + 1);
            assert!(others.into_iter().all(|other| other.label != open.label && other.name != open.name));
        }
    }

    #[test]
    fn choices_have_reasons() {
        assert!(CHOICES.iter().all(|choice| !choice.choice.is_empty() && !choice.reason.is_empty()));
    }
}
