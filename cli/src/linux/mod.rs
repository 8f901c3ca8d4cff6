//! Stock Linux kernels as guests.

pub(crate) mod engine;
pub(crate) mod image;
pub(crate) mod kernel;
pub(crate) mod session;
