//! Confidential machines: an engine's exits turned into calls of the simulator, and nothing else.

#[cfg(all(target_os = "linux", target_arch = "x86_64"))]
pub mod boot;
pub mod host;
pub mod snp;
#[cfg(test)]
mod tests;
