//! The task where a kernel shows none: the host sends it over the channel, after the guest's first word.

use std::fs::OpenOptions;
use std::io::{self, Read};

use nix::sys::termios::{self, SetArg, SpecialCharacterIndices};
use tsmsim_abi::linux_guest::{CHANNEL, CHANNEL_TASK_MAX};

use crate::channel::Channel;

/// How long the line may be silent, in tenths of a second (`termios`, `VTIME`).
const SILENCE: u8 = 250;

/// The task, if the host sent one. The channel has to be open, and its first word sent.
pub(crate) fn task(channel: &Channel) -> Option<Vec<u8>> {
    match from_port() {
        Ok(task) => Some(task).filter(|task| !task.is_empty()),
        Err(error) => {
            channel.log(&format!("no task from the host: {CHANNEL}: {error}"));
            None
        }
    }
}

fn from_port() -> io::Result<Vec<u8>> {
    let mut port = OpenOptions::new().read(true).open(CHANNEL)?;
    let mut settings = termios::tcgetattr(&port)?;
    for (index, value) in [(SpecialCharacterIndices::VMIN, 0), (SpecialCharacterIndices::VTIME, SILENCE)] {
        if let Some(place) = settings.control_chars.get_mut(index as usize) {
            *place = value;
        }
    }
    termios::tcsetattr(&port, SetArg::TCSANOW, &settings)?;
    framed(&mut port)
}

/// A length of four bytes, little endian, and that many bytes.
fn framed(port: &mut impl Read) -> io::Result<Vec<u8>> {
    let mut length = [0; 4];
    port.read_exact(&mut length)?;
    let length = u32::from_le_bytes(length);
    if length > CHANNEL_TASK_MAX {
        return Err(io::Error::other(format!("{length} bytes are too many")));
    }
    let mut task = vec![0; usize::try_from(length).map_err(io::Error::other)?];
    port.read_exact(&mut task)?;
    Ok(task)
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;

    #[rstest]
    #[case::none(b"\0\0\0\0", Some(&b""[..]))]
    #[case::some(b"\x03\0\0\0abcd", Some(&b"abc"[..]))]
    #[case::cut_short(b"\x03\0\0\0ab", None)]
    #[case::silence(b"", None)]
    #[case::too_long(b"\x01\x10\0\0", None)]
    fn tasks(#[case] mut sent: &[u8], #[case] task: Option<&[u8]>) {
        assert_eq!(framed(&mut sent).ok().as_deref(), task);
    }
}
