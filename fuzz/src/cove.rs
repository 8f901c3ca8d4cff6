//! TVMs that cost little to make: the platform is built once per thread, and every run gets a clone of a launched TVM.

use std::cell::OnceCell;

use tsmsim_keys::Seed;
use tsmsim_simulator::{
    cove::{
        guest::IMAGE_GPA,
        machine::{HostConfig, LaunchPlan, Machine, PlannedPage},
        platform::CovePlatformConfig,
    },
    snp::guest::World,
};

use crate::{RAM, world};

thread_local! {
    static MACHINE: OnceCell<Machine> = const { OnceCell::new() };
}

/// A launched TVM of two vCPUs; all of memory is confidential.
pub fn machine() -> (Machine, World) {
    (MACHINE.with(|machine| machine.get_or_init(launch).clone()), world())
}

fn launch() -> Machine {
    let platform = CovePlatformConfig::new().build(&Seed::DEFAULT).expect("the platform can be built");
    let plan = LaunchPlan {
        ram: std::iter::once(0..RAM as u64).collect(),
        vcpus: 2,
        pages: vec![PlannedPage { gpa: IMAGE_GPA, contents: None }],
        entry_sepc: IMAGE_GPA,
        entry_arg: 0,
        identity: None,
    };
    let mut world = world();
    let (mut env, _) = world.env();
    Machine::launch(platform, HostConfig::default(), &plan, &mut env).expect("the TVM launches")
}
