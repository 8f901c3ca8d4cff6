//! Devices for the [port bus](crate::bus).

pub mod serial;
