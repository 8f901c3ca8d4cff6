//! The configuration file.

use std::ffi::OsString;
use std::os::unix::ffi::OsStringExt;

use tsmsim_abi::linux_guest::Record;

/// A module to load.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Module {
    /// The file's name.
    pub(crate) file: OsString,
    /// Whether going without it is no failure.
    pub(crate) optional: bool,
}

/// What the host wants.
#[derive(Clone, Default, PartialEq, Eq, Debug)]
pub(crate) struct Configuration {
    /// In this order.
    pub(crate) modules: Vec<Module>,
    /// The command; empty: the built-in check.
    pub(crate) command: Vec<OsString>,
    /// `NAME=VALUE`.
    pub(crate) environment: Vec<(OsString, OsString)>,
    /// Where the command runs.
    pub(crate) directory: Option<OsString>,
}

impl Configuration {
    /// Reads a configuration file.
    ///
    /// # Errors
    /// A record that is not known, for people.
    pub(crate) fn parse(bytes: &[u8]) -> Result<Self, String> {
        let mut configuration = Self::default();
        for record in bytes.split(|&byte| byte == 0).filter(|record| !record.is_empty()) {
            let unknown =
                || format!("unknown record {:?} in the configuration", String::from_utf8_lossy(record));
            let string = |value: &[u8]| OsString::from_vec(value.to_vec());
            match Record::parse(record).ok_or_else(unknown)? {
                Record::Module(file) => {
                    configuration.modules.push(Module { file: string(file), optional: false });
                }
                Record::Optional(file) => {
                    configuration.modules.push(Module { file: string(file), optional: true });
                }
                Record::Argument(argument) => configuration.command.push(string(argument)),
                Record::Environment(variable) => {
                    let at = variable.iter().position(|&byte| byte == b'=').ok_or_else(unknown)?;
                    let (name, value) = variable.split_at(at);
                    let value = value.get(1..).unwrap_or_default();
                    configuration.environment.push((string(name), string(value)));
                }
                Record::Directory(path) => configuration.directory = Some(string(path)),
            }
        }
        Ok(configuration)
    }
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;

    #[test]
    fn everything_at_once() {
        let text = b"module=tsm.ko\0optional=gcm.ko\0argument=/bin/x\0argument=\0environment=A=b=c\0directory=/tmp\0";
        let module = |file: &str, optional| Module { file: file.into(), optional };
        let expected = Configuration {
            modules: vec![module("tsm.ko", false), module("gcm.ko", true)],
            command: vec!["/bin/x".into(), "".into()],
            environment: vec![("A".into(), "b=c".into())],
            directory: Some("/tmp".into()),
        };
        assert_eq!(Configuration::parse(text), Ok(expected));
    }

    #[rstest]
    #[case::empty(b"", true)]
    #[case::unknown(b"modules=x\0", false)]
    #[case::no_value(b"module\0", false)]
    #[case::no_variable(b"environment=A\0", false)]
    fn oddities(#[case] text: &[u8], #[case] good: bool) {
        assert_eq!(Configuration::parse(text).is_ok(), good);
    }
}
