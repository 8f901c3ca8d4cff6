//! Object identifiers of the SGX extension in PCK certificates (Intel, *SGX PCK Certificate and Certificate Revocation List
//! Profile Specification*, section 1.3.5).

use der::asn1::ObjectIdentifier;

/// The SGX extension: SEQUENCE OF SEQUENCE { id, value }.
pub const SGX_EXTENSION: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.113741.1.13.1");
/// `PPID`: OCTET STRING of 16 bytes, the platform provisioning identifier.
pub const PPID: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.113741.1.13.1.1");
/// `TCB`: SEQUENCE of components, PCESVN and CPUSVN. Component *n*, counted from 1, has the arc *n* below this: INTEGER.
pub const TCB: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.113741.1.13.1.2");
/// `PCESVN`: INTEGER.
pub const PCESVN: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.113741.1.13.1.2.17");
/// `CPUSVN`: OCTET STRING of 16 bytes.
pub const CPUSVN: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.113741.1.13.1.2.18");
/// `PCE-ID`: OCTET STRING of 2 bytes.
pub const PCEID: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.113741.1.13.1.3");
/// `FMSPC`: OCTET STRING of 6 bytes, family, model, stepping, platform type and custom SKU.
pub const FMSPC: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.113741.1.13.1.4");
/// `SGX Type`: ENUMERATED.
pub const SGX_TYPE: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.113741.1.13.1.5");
/// `PlatformInstanceID`: OCTET STRING of 16 bytes. Only below the platform CA.
pub const PLATFORM_INSTANCE_ID: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.113741.1.13.1.6");
/// `Configuration`: SEQUENCE of flags. Only below the platform CA.
pub const CONFIGURATION: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.113741.1.13.1.7");
/// `Dynamic Platform`: BOOLEAN.
pub const DYNAMIC_PLATFORM: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.113741.1.13.1.7.1");
/// `Cached Keys`: BOOLEAN.
pub const CACHED_KEYS: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.113741.1.13.1.7.2");
/// `SMT Enabled`: BOOLEAN.
pub const SMT_ENABLED: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.113741.1.13.1.7.3");
