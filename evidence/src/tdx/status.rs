//! TCB statuses and how those of several components become one.

use serde::Deserialize;

/// `tcbStatus` (Intel PCS API version 4), and the two that verifiers derive for TDX 1.5 (Intel TDX DCAP Quoting Library API,
/// `TD_RELAUNCH_ADVISED`).
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Deserialize)]
pub enum TcbStatus {
    /// All security updates are in.
    UpToDate,
    /// Updates are in, software in the enclave or domain must do its part.
    #[serde(rename = "SWHardeningNeeded")]
    SwHardeningNeeded,
    /// Updates are in, the platform's configuration may leave it open.
    ConfigurationNeeded,
    /// Both of these.
    #[serde(rename = "ConfigurationAndSWHardeningNeeded")]
    ConfigurationAndSwHardeningNeeded,
    /// Updates are missing.
    OutOfDate,
    /// Updates are missing, and the configuration may leave it open.
    OutOfDateConfigurationNeeded,
    /// Not to be trusted any more.
    Revoked,
    /// The TD was launched by a module that is out of date, and runs under one that is not. In no document.
    #[serde(skip)]
    TdRelaunchAdvised,
    /// The same, and the configuration may leave it open. In no document.
    #[serde(skip)]
    TdRelaunchAdvisedConfigurationNeeded,
}

impl TcbStatus {
    /// As JSON and other verifiers have it: `UpToDate`, `SWHardeningNeeded`, ...
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::UpToDate => "UpToDate",
            Self::SwHardeningNeeded => "SWHardeningNeeded",
            Self::ConfigurationNeeded => "ConfigurationNeeded",
            Self::ConfigurationAndSwHardeningNeeded => "ConfigurationAndSWHardeningNeeded",
            Self::OutOfDate => "OutOfDate",
            Self::OutOfDateConfigurationNeeded => "OutOfDateConfigurationNeeded",
            Self::Revoked => "Revoked",
            Self::TdRelaunchAdvised => "TDRelaunchAdvised",
            Self::TdRelaunchAdvisedConfigurationNeeded => "TDRelaunchAdvisedConfigurationNeeded",
        }
    }

    const fn is_out_of_date(self) -> bool {
        matches!(self, Self::OutOfDate | Self::OutOfDateConfigurationNeeded)
    }

    const fn needs_configuration(self) -> bool {
        matches!(
            self,
            Self::ConfigurationNeeded
                | Self::ConfigurationAndSwHardeningNeeded
                | Self::OutOfDateConfigurationNeeded
        )
    }

    /// The platform's status with that of one of its enclaves or of its module, which counts only where it is out of date or
    /// revoked.
    pub(super) const fn with_component(self, component: Self) -> Self {
        match (self, component) {
            (Self::Revoked, _) | (_, Self::Revoked) => Self::Revoked,
            (platform, component) if !component.is_out_of_date() => platform,
            (platform, _) if platform.needs_configuration() => Self::OutOfDateConfigurationNeeded,
            _ => Self::OutOfDate,
        }
    }

    /// The status at launch with that of the module that runs now.
    pub(super) const fn with_current(self, current: Self) -> Self {
        match (self, current) {
            (_, Self::Revoked) => Self::Revoked,
            (launch, current) if launch.is_out_of_date() && !current.is_out_of_date() => {
                if launch.needs_configuration() || current.needs_configuration() {
                    Self::TdRelaunchAdvisedConfigurationNeeded
                } else {
                    Self::TdRelaunchAdvised
                }
            }
            (launch, _) => launch,
        }
    }
}

impl std::fmt::Display for TcbStatus {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.name())
    }
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::TcbStatus::{self, *};

    #[rstest]
    #[case(UpToDate, UpToDate, UpToDate)]
    #[case(SwHardeningNeeded, UpToDate, SwHardeningNeeded)]
    #[case(UpToDate, OutOfDate, OutOfDate)]
    #[case(SwHardeningNeeded, OutOfDate, OutOfDate)]
    #[case(ConfigurationNeeded, OutOfDate, OutOfDateConfigurationNeeded)]
    #[case(UpToDate, Revoked, Revoked)]
    #[case(Revoked, OutOfDate, Revoked)]
    fn components(#[case] platform: TcbStatus, #[case] component: TcbStatus, #[case] both: TcbStatus) {
        assert_eq!(platform.with_component(component), both);
    }

    #[rstest]
    #[case(OutOfDate, UpToDate, TdRelaunchAdvised)]
    #[case(OutOfDate, ConfigurationNeeded, TdRelaunchAdvisedConfigurationNeeded)]
    #[case(OutOfDate, OutOfDate, OutOfDate)]
    #[case(OutOfDate, Revoked, Revoked)]
    #[case(UpToDate, OutOfDate, UpToDate)]
    fn relaunch(#[case] launch: TcbStatus, #[case] current: TcbStatus, #[case] both: TcbStatus) {
        assert_eq!(launch.with_current(current), both);
    }
}
