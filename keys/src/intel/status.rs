//! TCB statuses, and levels that give a platform the status wanted.

use serde::Serialize;

/// `tcbStatus` (Intel PCS API version 4, TCB info and enclave identity).
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default, Serialize)]
pub enum TcbStatus {
    /// All security updates are in.
    #[default]
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
}

impl TcbStatus {
    /// Every status.
    pub const ALL: [Self; 7] = [
        Self::UpToDate,
        Self::SwHardeningNeeded,
        Self::ConfigurationNeeded,
        Self::ConfigurationAndSwHardeningNeeded,
        Self::OutOfDate,
        Self::OutOfDateConfigurationNeeded,
        Self::Revoked,
    ];

    /// As JSON has it: `UpToDate`, `SWHardeningNeeded`, …
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
        }
    }

    /// Whether the status says that there is something newer.
    const fn is_behind(self) -> bool {
        matches!(self, Self::OutOfDate | Self::OutOfDateConfigurationNeeded | Self::Revoked)
    }

    /// Advisories of Intel's that go with such a status.
    pub(super) fn usual_advisories(self) -> Vec<String> {
        let ids: &[&str] = match self {
            Self::UpToDate => &[],
            Self::SwHardeningNeeded => &["INTEL-SA-00615"],
            Self::ConfigurationNeeded => &["INTEL-SA-00289"],
            Self::ConfigurationAndSwHardeningNeeded => &["INTEL-SA-00289", "INTEL-SA-00615"],
            Self::OutOfDate | Self::Revoked => &["INTEL-SA-00828", "INTEL-SA-00837"],
            Self::OutOfDateConfigurationNeeded => &["INTEL-SA-00289", "INTEL-SA-00828", "INTEL-SA-00837"],
        };
        ids.iter().map(|id| (*id).to_owned()).collect()
    }
}

/// Which of the two data sets that Intel keeps in force at a time (`update` in the service's requests).
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default)]
pub enum Update {
    /// `standard`: the older set, in force until owners had time to update. The newest security version numbers are not in
    /// it, so a platform one step behind is judged as the platform itself is.
    #[default]
    Standard,
    /// `early`: the newer set, as soon as updates are published. A platform one step behind is out of date.
    Early,
}

impl Update {
    /// `tcbEvaluationDataNumber`: higher for the newer set.
    #[must_use]
    pub const fn tcb_evaluation_data_number(self) -> u32 {
        match self {
            Self::Standard => 13,
            Self::Early => 14,
        }
    }

    /// `tcbDate` of the newest level: the day of the security advisories that the set answers.
    pub(super) const fn tcb_date(self) -> &'static str {
        match self {
            Self::Standard => "2022-08-10T00:00:00Z",
            Self::Early => "2022-11-09T00:00:00Z",
        }
    }
}

/// `tcbDate` of the lowest level.
const LOWEST_TCB_DATE: &str = "2018-01-04T00:00:00Z";

/// One of `tcbLevels`; what `tcb` is depends on the document.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct TcbLevel<T> {
    /// From which security version numbers on the level applies.
    pub tcb: T,
    /// The day of the advisories that it answers.
    pub tcb_date: String,
    /// Its status.
    pub tcb_status: TcbStatus,
    /// What is known to be wrong with it. Left out where nothing is.
    #[serde(rename = "advisoryIDs", skip_serializing_if = "Vec::is_empty")]
    pub advisory_ids: Vec<String>,
}

/// Security version numbers from which levels are made.
pub(super) trait Svn: Clone + PartialEq {
    /// One step up, if there is one.
    fn raised(&self) -> Option<Self>;
    /// One step down, or the same where there is none.
    fn lowered(&self) -> Self;
    /// Lower than everything.
    fn lowest(&self) -> Self;
}

/// How something is to be judged.
pub(super) struct Verdict<'a> {
    pub(super) status: TcbStatus,
    pub(super) advisory_ids: Option<&'a [String]>,
    pub(super) update: Update,
}

/// Levels, highest first, among which `tcb` is judged as told: what is behind is so because a level above it is up to date.
pub(super) fn levels<T: Svn>(tcb: &T, verdict: &Verdict<'_>) -> Vec<TcbLevel<T>> {
    let Verdict { status, advisory_ids, update } = *verdict;
    let date = update.tcb_date();
    let behind = if status == TcbStatus::Revoked { TcbStatus::Revoked } else { TcbStatus::OutOfDate };
    let mut levels: Vec<TcbLevel<T>> = Vec::new();
    let mut add = |tcb: T, date: &str, status: TcbStatus, advisory_ids: Option<&[String]>| {
        if levels.iter().all(|level| level.tcb != tcb) {
            let advisory_ids = advisory_ids.map_or_else(|| status.usual_advisories(), <[_]>::to_vec);
            levels.push(TcbLevel { tcb, tcb_date: date.to_owned(), tcb_status: status, advisory_ids });
        }
    };
    if status.is_behind()
        && let Some(raised) = tcb.raised()
    {
        add(raised, date, TcbStatus::UpToDate, None);
    }
    match update {
        Update::Standard => add(tcb.lowered(), date, status, advisory_ids),
        Update::Early => {
            add(tcb.clone(), date, status, advisory_ids);
            add(tcb.lowered(), Update::Standard.tcb_date(), behind, None);
        }
    }
    add(tcb.lowest(), LOWEST_TCB_DATE, behind, None);
    levels
}
