//! Stock Linux kernels as guests.

pub(crate) mod image;
pub(crate) mod kernel;
