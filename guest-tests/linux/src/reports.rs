//! Many reports in a row, for benchmarks: the loop through configfs, and the same loop over plain files.

use std::{
    env, fs, io,
    path::Path,
    process::ExitCode,
    time::{Duration, Instant},
};

const ENTRY: &str = "/sys/kernel/config/tsm/report/reports";
/// About the size of a report or quote.
const PLAIN_SIZE: usize = 4096;

/// `reports [COUNT]`: prints the time of both loops by the guest's clock.
pub(crate) fn run(mut arguments: impl Iterator<Item = String>) -> ExitCode {
    let count = arguments.next().and_then(|count| count.parse().ok()).unwrap_or(1000);
    let made = plain(count).and_then(|plain| Ok((plain, in_entry(Path::new(ENTRY), count)?)));
    match made {
        Ok((plain, configfs)) => {
            println!("plain files: {count} rounds in {} µs", plain.as_micros());
            println!("configfs: {count} rounds in {} µs", configfs.as_micros());
            ExitCode::SUCCESS
        }
        Err(error) => {
            eprintln!("reports: {error}");
            ExitCode::FAILURE
        }
    }
}

fn plain(count: u64) -> io::Result<Duration> {
    let directory = env::temp_dir().join("reports");
    fs::create_dir_all(&directory)?;
    fs::write(directory.join("outblob"), [0; PLAIN_SIZE])?;
    rounds(&directory, count)
}

fn in_entry(entry: &Path, count: u64) -> io::Result<Duration> {
    fs::create_dir(entry)?;
    let time = rounds(entry, count);
    fs::remove_dir(entry)?;
    time
}

fn rounds(directory: &Path, count: u64) -> io::Result<Duration> {
    let start = Instant::now();
    for round in 0..count {
        let mut inblob = [0; 64];
        inblob[..8].copy_from_slice(&round.to_le_bytes());
        fs::write(directory.join("inblob"), inblob)?;
        if fs::read(directory.join("outblob"))?.is_empty() {
            return Err(io::Error::other("outblob is empty"));
        }
    }
    Ok(start.elapsed())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_empty_report_is_none() {
        let directory = env::temp_dir().join(format!("tsmsim-reports-{}", std::process::id()));
        fs::create_dir(&directory).unwrap();
        fs::write(directory.join("outblob"), b"").unwrap();
        let empty = rounds(&directory, 1);
        fs::write(directory.join("outblob"), b"report").unwrap();
        let good = rounds(&directory, 2);
        fs::remove_dir_all(&directory).unwrap();
        assert!(empty.is_err() && good.is_ok());
    }
}
