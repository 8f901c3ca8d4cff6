//! What tests of several crates share: finding the workspace ([`workspace`]), and asking for what a machine may lack
//! ([`need`]), so that a test that had to be left out is seen and counted.

pub mod need;
pub mod workspace;
