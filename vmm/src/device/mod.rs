//! Devices for the [port bus](crate::bus).

pub mod cmos;
pub mod serial;
