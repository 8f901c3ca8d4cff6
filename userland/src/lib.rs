//! The kernel's part of attestation, for unmodified programs without a virtual machine.
//!
//! In a confidential guest, a program that makes a directory in `/sys/kernel/config/tsm/report`, writes `inblob` there
//! and reads `outblob`, passes three layers of Linux: configfs, the `tsm` core, and a driver (`sev-guest`,
//! `tdx-guest`, or for CoVE this project's own) that asks the firmware. Each has its place here:
//!
//! | Linux | here |
//! |---|---|
//! | `fs/configfs`, `drivers/virt/coco/tsm.c` | [`configfs`]: a state machine without file descriptors |
//! | `sev-guest.c`, `tdx-guest.c`, our `cove_guest.c` | [`drivers`]: what stands between configfs and the firmware models |
//! | the VFS and the mount | [`shell`]: FUSE, device files, private mount namespaces |
//!
//! The firmware models of `tsmsim-simulator` are asked through the entry points that a guest in a virtual machine uses.

pub mod configfs;
pub mod drivers;
pub mod provider;
pub mod shell;
