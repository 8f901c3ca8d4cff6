//! One file per command.

pub(crate) mod boot;
pub(crate) mod conform;
pub(crate) mod demo;
pub(crate) mod keys;
pub(crate) mod measure;
pub(crate) mod report;
pub(crate) mod run;
pub(crate) mod show;
pub(crate) mod verify;
