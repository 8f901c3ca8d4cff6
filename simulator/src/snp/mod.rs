//! AMD SEV-SNP.
//!
//! | module | what |
//! |---|---|
//! | [`platform`] | the chip: identity, TCB, endorsement keys, configuration |
//! | [`firmware`] | the secure processor's commands: launch and guest requests |
//! | [`context`] | a guest as the firmware knows it |
//! | [`launch`] | the launch digest |
//! | [`message`] | guest messages: the envelope, and one file per message type |
//! | [`rmp`] | the reverse map table: page states, PVALIDATE, RMPADJUST |
//! | [`host`] | the hypervisor's side of the GHCB protocol |
//! | [`guest`] | the guest's side, for programs without a virtual machine |
//! | [`event`] | what goes into the journal |

pub mod context;
pub mod event;
pub mod firmware;
pub mod guest;
pub mod host;
pub mod launch;
pub mod message;
pub mod platform;
pub mod rmp;
