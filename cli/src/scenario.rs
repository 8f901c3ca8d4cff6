//! Scenarios from the command line: for which technology they are.

use clap::ValueEnum;
use tsmsim_keys::{amd, cove, intel};

use crate::{
    args::{Scenario, ScenarioArgs, Update},
    failure::Failure,
};

impl Scenario {
    /// As one of SNP's.
    pub(crate) const fn snp(self) -> Option<amd::Scenario> {
        match self {
            Self::UpToDate => Some(amd::Scenario::UpToDate),
            Self::RevokedAsk => Some(amd::Scenario::RevokedAsk),
            Self::ExpiredVek => Some(amd::Scenario::ExpiredVek),
            _ => None,
        }
    }

    /// As one of TDX's.
    pub(crate) const fn tdx(self) -> Option<intel::Scenario> {
        use intel::{Scenario::Status, TcbStatus};
        Some(match self {
            Self::UpToDate => Status(TcbStatus::UpToDate),
            Self::OutOfDate => Status(TcbStatus::OutOfDate),
            Self::SwHardeningNeeded => Status(TcbStatus::SwHardeningNeeded),
            Self::ConfigurationNeeded => Status(TcbStatus::ConfigurationNeeded),
            Self::ConfigurationAndSwHardeningNeeded => Status(TcbStatus::ConfigurationAndSwHardeningNeeded),
            Self::OutOfDateConfigurationNeeded => Status(TcbStatus::OutOfDateConfigurationNeeded),
            Self::Revoked => Status(TcbStatus::Revoked),
            Self::RevokedPck => intel::Scenario::RevokedPck,
            Self::ExpiredCollateral => intel::Scenario::ExpiredCollateral,
            Self::RevokedAsk | Self::ExpiredVek | Self::RevokedRot => return None,
        })
    }

    /// As one of CoVE's.
    pub(crate) const fn cove(self) -> Option<cove::Scenario> {
        match self {
            Self::UpToDate => Some(cove::Scenario::Sound),
            Self::RevokedRot => Some(cove::Scenario::RevokedRot),
            _ => None,
        }
    }

    fn name(self) -> String {
        self.to_possible_value().map_or_else(String::new, |value| value.get_name().to_owned())
    }

    /// The scenario as one technology's, or which ones it has.
    fn of<T>(self, tee: &str, convert: impl Fn(Self) -> Option<T>) -> Result<T, Failure> {
        convert(self).ok_or_else(|| {
            let known = Self::value_variants().iter().filter(|scenario| convert(**scenario).is_some());
            let names: Vec<String> = known.map(|scenario| scenario.name()).collect();
            Failure::Usage(format!("--tee {tee} has the scenarios {}, not {}", names.join(", "), self.name()))
        })
    }
}

impl From<Update> for intel::Update {
    fn from(update: Update) -> Self {
        match update {
            Update::Standard => Self::Standard,
            Update::Early => Self::Early,
        }
    }
}

impl ScenarioArgs {
    /// SNP's scenario; the data sets are Intel's.
    pub(crate) fn snp(self) -> Result<amd::Scenario, Failure> {
        if self.update.is_some() {
            return Err(Failure::Usage("--update is for --tee tdx".to_owned()));
        }
        self.scenario.unwrap_or_default().of("snp", Scenario::snp)
    }

    /// CoVE's scenario; the data sets are Intel's.
    pub(crate) fn cove(self) -> Result<cove::Scenario, Failure> {
        if self.update.is_some() {
            return Err(Failure::Usage("--update is for --tee tdx".to_owned()));
        }
        self.scenario.unwrap_or_default().of("cove", Scenario::cove)
    }

    /// TDX's scenario and data set.
    pub(crate) fn tdx(self) -> Result<(intel::Scenario, intel::Update), Failure> {
        let scenario = self.scenario.unwrap_or_default().of("tdx", Scenario::tdx)?;
        Ok((scenario, self.update.unwrap_or_default().into()))
    }

    /// For both at once: the scenario for the technology that it is of, and nothing wrong with the other.
    pub(crate) fn both(self) -> (amd::Scenario, intel::Scenario, intel::Update) {
        let scenario = self.scenario.unwrap_or_default();
        let update = self.update.unwrap_or_default().into();
        (scenario.snp().unwrap_or_default(), scenario.tdx().unwrap_or_default(), update)
    }
}
