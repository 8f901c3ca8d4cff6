//! One file per command.

pub(crate) mod demo;
pub(crate) mod keys;
pub(crate) mod measure;
pub(crate) mod report;
pub(crate) mod show;
pub(crate) mod verify;
