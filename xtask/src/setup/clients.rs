//! Real clients of the attestation interfaces, from crates.io: what the tests run unmodified, on this machine and, being
//! static, in guests that have no libraries.

use std::path::PathBuf;

use super::say;
use crate::context::Context;
use crate::failure::Failure;
use crate::process;

/// A program of another project.
pub(crate) struct Client {
    /// Its package, and the name of its program.
    package: &'static str,
    version: &'static str,
    /// What it does.
    what: &'static str,
    /// The variable that gives it to tests.
    pub(crate) variable: &'static str,
}

/// All of them.
pub(crate) const CLIENTS: [Client; 2] = [
    Client {
        package: "snpguest",
        version: "0.11.0",
        what: "asks /dev/sev-guest and verifies what it gets",
        variable: "TSMSIM_SNPGUEST",
    },
    Client {
        package: "configfs-tsm",
        version: "0.0.2",
        what: "asks configfs-tsm for a TDX quote",
        variable: "TSMSIM_CONFIGFS_TSM",
    },
];

impl Client {
    /// Each version has a directory of its own, so a new version is not mistaken for an old one.
    fn home(&self, context: &Context) -> PathBuf {
        context.target.join("clients").join(format!("{}-{}", self.package, self.version))
    }

    /// The program, if it is there.
    pub(crate) fn program(&self, context: &Context) -> Option<PathBuf> {
        Some(self.home(context).join("bin").join(self.package)).filter(|file| file.is_file())
    }
}

/// Builds those that are missing.
pub(super) fn install(context: &Context) -> Result<(), Failure> {
    for client in CLIENTS.iter().filter(|client| client.program(context).is_none()) {
        let Client { package, version, what, .. } = client;
        say(&format!("{package} {version} from crates.io, under target/clients: it {what}"));
        let host = process::output(context.command("rustc").args(["--print", "host-tuple"]))?;
        let mut command = context.cargo_command("install");
        // The target is named so that the flags do not reach build scripts and macros.
        command.env("RUSTFLAGS", "-C target-feature=+crt-static").args(["--target", host.trim()]);
        // They run for milliseconds and take minutes to build.
        command.env("CARGO_PROFILE_RELEASE_OPT_LEVEL", "1");
        command.args(["--quiet", "--locked", "--root"]).arg(client.home(context));
        command.arg("--target-dir").arg(context.target.join("clients/build"));
        process::run(command.arg(format!("{package}@{version}"))).map_err(|failure| {
            let advice = "connect to the network once; what was built is kept under target/clients";
            Failure::lacking(format!("cargo could not install {package}"), advice)
                .command(failure.command_line())
        })?;
    }
    Ok(())
}
