//! CoVE: platforms and evidence from the command line.

pub(crate) mod evidence;
pub(crate) mod local;
pub(crate) mod machine;
