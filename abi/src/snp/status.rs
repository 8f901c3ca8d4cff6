//! Firmware status codes (56860 rev. 1.58, section 6.2 "Status Codes", table 7 and the SEV API 55766 that it extends).

open_codes! {
    /// What a firmware command returns; also the `STATUS` of a guest message's response.
    pub struct FirmwareStatus(u32);
    /// The command succeeded.
    SUCCESS = 0x00;
    /// The platform is in the wrong state for the command.
    INVALID_PLATFORM_STATE = 0x01;
    /// The guest is in the wrong state for the command.
    INVALID_GUEST_STATE = 0x02;
    /// The platform configuration is invalid.
    INVALID_CONFIG = 0x03;
    /// A buffer is too small.
    INVALID_LENGTH = 0x04;
    /// The platform is already owned.
    ALREADY_OWNED = 0x05;
    /// A certificate is invalid.
    INVALID_CERTIFICATE = 0x06;
    /// The guest's policy forbids the request.
    POLICY_FAILURE = 0x07;
    /// The guest is inactive.
    INACTIVE = 0x08;
    /// An address is invalid.
    INVALID_ADDRESS = 0x09;
    /// A signature is invalid.
    BAD_SIGNATURE = 0x0a;
    /// A measurement (also: the authentication tag of a message) is invalid.
    BAD_MEASUREMENT = 0x0b;
    /// The ASID is already owned.
    ASID_OWNED = 0x0c;
    /// The ASID is invalid.
    INVALID_ASID = 0x0d;
    /// WBINVD must be executed first.
    WBINVD_REQUIRED = 0x0e;
    /// DF_FLUSH must be invoked first.
    DFFLUSH_REQUIRED = 0x0f;
    /// The guest handle or guest context is invalid.
    INVALID_GUEST = 0x10;
    /// The command is unknown.
    INVALID_COMMAND = 0x11;
    /// The guest is active.
    ACTIVE = 0x12;
    /// A hardware condition affected the platform; the command may be retried.
    HWERROR_PLATFORM = 0x13;
    /// A hardware condition affected the platform; firmware must be restarted.
    HWERROR_UNSAFE = 0x14;
    /// The feature is not supported.
    UNSUPPORTED = 0x15;
    /// A parameter is invalid.
    INVALID_PARAM = 0x16;
    /// A resource is exhausted.
    RESOURCE_LIMIT = 0x17;
    /// Persistent data failed its integrity check.
    SECURE_DATA_INVALID = 0x18;
    /// A page has the wrong size.
    INVALID_PAGE_SIZE = 0x19;
    /// A page is in the wrong state.
    INVALID_PAGE_STATE = 0x1a;
    /// A metadata entry is invalid.
    INVALID_MDATA_ENTRY = 0x1b;
    /// A page has the wrong owner.
    INVALID_PAGE_OWNER = 0x1c;
    /// The message sequence number is wrong, or the counter would overflow.
    AEAD_OFLOW = 0x1d;
    /// A command was given through the mailbox while ring buffer mode was on.
    RBMODE_EXITED = 0x1f;
    /// The RMP must be initialised again.
    RMP_INIT_REQUIRED = 0x20;
    /// A security version number is too low.
    BAD_SVN = 0x21;
    /// A version is too low.
    BAD_VERSION = 0x22;
    /// SNP_SHUTDOWN must be invoked first.
    SHUTDOWN_REQUIRED = 0x23;
    /// A firmware update failed.
    UPDATE_FAILED = 0x24;
    /// The platform must be restored.
    RESTORE_REQUIRED = 0x25;
    /// The RMP could not be initialised.
    RMP_INITIALIZATION_FAILED = 0x26;
    /// The selected key is not available.
    INVALID_KEY = 0x27;
}
