//! The machine: everything that needs `unsafe`, assembly or ring 0.

mod boot;
mod instructions;
pub(super) mod memory;
mod tables;
pub(super) mod td;
mod trap;
pub(super) mod user;
