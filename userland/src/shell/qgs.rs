//! The quote generation service on a Unix socket or on vsock, as DCAP's `qgsd` listens: each message follows its length, four
//! bytes, most significant first (`qgs_server.cpp`, and `tdx_attest.c` on the client's side).
//!
//! # Who reaches it on vsock
//! `libtdx_attest` connects to CID 2, the host, and the port of `/etc/tdx-attest.conf`. Programs of the same machine get there
//! if the kernel has `vsock_loopback` and the machine is not itself a guest; in a guest CID 2 is the host's, and this service
//! has CID 1. Virtual machines of this one reach it at CID 2 through `vhost_vsock`.

use std::{
    convert::Infallible,
    io::{self, ErrorKind, Read, Write},
    os::unix::net::UnixListener,
    path::PathBuf,
    str::FromStr,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    thread,
    time::Duration,
};

use socket2::{Domain, SockAddr, Socket, Type};
use tsmsim_simulator::tdx::qgs::QuoteService;

use super::error::ShellError;

/// Longest message that is read: a request with its TDREPORT has about a thousand bytes.
const MAX_MESSAGE: usize = 64 * 1024;

/// Connections that are served at once; further ones are closed.
const MAX_CONNECTIONS: usize = 64;

/// How long a connection may be silent.
const PATIENCE: Duration = Duration::from_secs(30);

/// Connections that wait to be accepted.
const BACKLOG: i32 = 64;

/// What comes before the port of an address on vsock.
const VSOCK: &str = "vsock:";

/// `VMADDR_CID_ANY`, `VMADDR_CID_LOCAL` and `VMADDR_CID_HOST` (`include/uapi/linux/vm_sockets.h`).
const CID_ANY: u32 = u32::MAX;
const CID_LOCAL: u32 = 1;
const CID_HOST: u32 = 2;

/// How long it is tried whether a CID leads here.
const PROBE: Duration = Duration::from_millis(500);

/// Where the service listens: `vsock:PORT`, or the path of a Unix socket.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum QgsAddress {
    /// A path that must not exist yet.
    Unix(PathBuf),
    /// A port of vsock, of every CID that this machine has.
    Vsock(u32),
}

impl FromStr for QgsAddress {
    type Err = Infallible;

    fn from_str(text: &str) -> Result<Self, Infallible> {
        // The last number is VMADDR_PORT_ANY.
        let port =
            text.strip_prefix(VSOCK).and_then(|port| port.parse().ok()).filter(|port| *port != u32::MAX);
        Ok(port.map_or_else(|| Self::Unix(text.into()), Self::Vsock))
    }
}

impl std::fmt::Display for QgsAddress {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Unix(path) => path.display().fmt(f),
            Self::Vsock(port) => write!(f, "{VSOCK}{port}"),
        }
    }
}

/// The service. A Unix socket's name goes away with this.
pub struct Qgs(QgsAddress);

impl Qgs {
    /// Serves at an address.
    ///
    /// # Errors
    /// The socket cannot be made there.
    pub fn serve(service: Arc<QuoteService>, address: QgsAddress) -> Result<Self, ShellError> {
        let refused = |error| ShellError::Usage(format!("--qgs {address}: {error}"));
        let listener = match &address {
            QgsAddress::Unix(path) => UnixListener::bind(path).map(Socket::from).map_err(refused)?,
            QgsAddress::Vsock(port) => vsock(*port)?,
        };
        let qgs = Self(address);
        thread::Builder::new()
            .name("tsmsim-qgs".to_owned())
            .spawn(move || accept(&listener, &service))
            .map_err(ShellError::failed("starting a thread"))?;
        Ok(qgs)
    }
}

impl Drop for Qgs {
    fn drop(&mut self) {
        if let QgsAddress::Unix(path) = &self.0 {
            // Somebody may have removed it.
            let _ = std::fs::remove_file(path);
        }
    }
}

/// A socket that listens on vsock. Whether programs of this machine reach it is said.
fn vsock(port: u32) -> Result<Socket, ShellError> {
    let socket = Socket::new(Domain::VSOCK, Type::STREAM, None).map_err(|error| {
        ShellError::Lacking(format!(
            "--qgs {VSOCK}{port}: no vsock: {error}; load the kernel's module (`modprobe vsock_loopback`); in a container \
             pass --security-opt seccomp=unconfined, or serve a Unix socket"
        ))
    })?;
    socket
        .bind(&SockAddr::vsock(CID_ANY, port))
        .and_then(|()| socket.listen(BACKLOG))
        .map_err(|error| ShellError::Usage(format!("--qgs {VSOCK}{port}: {error}")))?;
    if !leads_here(CID_HOST, port, &socket) {
        let advice = if leads_here(CID_LOCAL, port, &socket) {
            "this machine is a guest itself, and CID 2 is its host; CID 1 leads here"
        } else {
            "nor at CID 1; vsock_loopback would help (`modprobe vsock_loopback`)"
        };
        tracing::warn!("--qgs {VSOCK}{port}: programs of this machine do not reach it at CID 2: {advice}");
    }
    Ok(socket)
}

/// Whether a connection to a CID arrives at a listener that nobody else knows yet.
fn leads_here(cid: u32, port: u32, listener: &Socket) -> bool {
    let arrives = || -> io::Result<bool> {
        let client = Socket::new(Domain::VSOCK, Type::STREAM, None)?;
        client.connect_timeout(&SockAddr::vsock(cid, port), PROBE)?;
        let (_, ours) = client.local_addr()?.as_vsock_address().unwrap_or_default();
        listener.set_nonblocking(true)?;
        let accepted = listener.accept();
        listener.set_nonblocking(false)?;
        Ok(accepted?.1.as_vsock_address().is_some_and(|(_, theirs)| theirs == ours))
    };
    arrives().unwrap_or(false)
}

fn accept(listener: &Socket, service: &Arc<QuoteService>) {
    let open = Arc::new(AtomicUsize::new(0));
    loop {
        let Ok((stream, _)) = listener.accept() else {
            // Too many open files, most likely: others will be closed.
            thread::sleep(Duration::from_millis(10));
            continue;
        };
        let place = Place::take(&open);
        if place.number > MAX_CONNECTIONS {
            continue;
        }
        let service = Arc::clone(service);
        let serve = move || {
            let _place = place;
            if let Err(error) = converse(&stream, &service) {
                tracing::debug!("a connection to the quote generation service: {error}");
            }
        };
        // Without a thread the connection is closed.
        let _ = thread::Builder::new().name("tsmsim-qgs".to_owned()).spawn(serve);
    }
}

/// A connection among those that are open.
struct Place {
    open: Arc<AtomicUsize>,
    number: usize,
}

impl Place {
    fn take(open: &Arc<AtomicUsize>) -> Self {
        Self { open: Arc::clone(open), number: open.fetch_add(1, Ordering::Relaxed) + 1 }
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.open.fetch_sub(1, Ordering::Relaxed);
    }
}

/// Answers message after message, until the client closes the connection or asks for what the service does not know.
fn converse(mut stream: &Socket, service: &QuoteService) -> io::Result<()> {
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.set_write_timeout(Some(PATIENCE))?;
    loop {
        let mut size = [0; 4];
        match stream.read_exact(&mut size) {
            Err(error) if error.kind() == ErrorKind::UnexpectedEof => return Ok(()),
            read => read?,
        }
        let size = usize::try_from(u32::from_be_bytes(size)).unwrap_or(usize::MAX);
        if size > MAX_MESSAGE {
            return Err(io::Error::other(format!("a message of {size} bytes")));
        }
        let mut message = vec![0; size];
        stream.read_exact(&mut message)?;
        let Some(answer) = service.respond(&message) else { return Ok(()) };
        let size = u32::try_from(answer.len()).map_err(io::Error::other)?;
        stream.write_all(&[&size.to_be_bytes()[..], &answer].concat())?;
    }
}

#[cfg(test)]
mod tests {
    use std::{os::unix::net::UnixStream, path::Path};

    use rstest::rstest;
    use tsmsim_abi::tdx::qgs::Message;
    use tsmsim_keys::Seed;
    use tsmsim_simulator::tdx::{platform::TdxPlatformConfig, quoting::QuotingEnclave};
    use tsmsim_tests::need::{self, Lack};

    use super::*;

    fn quotes() -> Arc<QuoteService> {
        let platform = TdxPlatformConfig::tdx_1_5().build(&Seed::DEFAULT).expect("a platform");
        Arc::new(QuoteService::new(QuotingEnclave::new(&platform).expect("an enclave")))
    }

    fn service() -> (tempfile::TempDir, PathBuf, Qgs) {
        let directory = tempfile::tempdir().expect("a temporary directory");
        let path = directory.path().join("qgs.socket");
        let qgs = Qgs::serve(quotes(), QgsAddress::Unix(path.clone())).expect("the path is free");
        (directory, path, qgs)
    }

    /// A port of our own.
    fn port() -> u32 {
        0x4000_0000 + std::process::id()
    }

    fn request() -> Vec<u8> {
        let request = Message::GetPlatformInfoReq;
        let mut bytes = vec![0; request.size()];
        request.write(&mut bytes).expect("it has the size");
        [&u32::try_from(bytes.len()).expect("it is short").to_be_bytes()[..], &bytes].concat()
    }

    fn answer(mut stream: impl Read) -> Vec<u8> {
        let mut size = [0; 4];
        stream.read_exact(&mut size).expect("an answer");
        let mut answer = vec![0; usize::try_from(u32::from_be_bytes(size)).expect("it fits")];
        stream.read_exact(&mut answer).expect("the rest of it");
        answer
    }

    #[test]
    fn messages_are_answered_one_after_the_other() {
        let (_directory, path, qgs) = service();
        let mut stream = UnixStream::connect(&path).expect("it listens");
        for _ in 0..2 {
            stream.write_all(&request()).expect("it reads");
            let answer = answer(&stream);
            assert!(matches!(Message::read(&answer), Ok(Message::GetPlatformInfoResp { .. })));
        }
        let taken = service_error(&path);
        assert!(taken.contains("--qgs"), "{taken}");
        drop(qgs);
        assert!(!path.exists());
    }

    fn service_error(path: &Path) -> String {
        let address = QgsAddress::Unix(path.to_owned());
        Qgs::serve(quotes(), address).map(drop).expect_err("the path is taken").to_string()
    }

    #[rstest]
    #[case("vsock:4050", QgsAddress::Vsock(4050))]
    #[case("vsock:4294967294", QgsAddress::Vsock(u32::MAX - 1))]
    #[case("vsock:4294967295", QgsAddress::Unix("vsock:4294967295".into()))]
    #[case("vsock:", QgsAddress::Unix("vsock:".into()))]
    #[case("./vsock:1", QgsAddress::Unix("./vsock:1".into()))]
    #[case("qgs.socket", QgsAddress::Unix("qgs.socket".into()))]
    fn addresses_are_read(#[case] text: &str, #[case] expected: QgsAddress) {
        assert_eq!(text.parse(), Ok(expected.clone()));
        assert_eq!(expected.to_string(), text);
    }

    #[test]
    fn vsock_is_served_to_this_machine() {
        let listener = match vsock(port()) {
            Ok(listener) => listener,
            Err(ShellError::Lacking(reason)) => return need::skip(Lack::Hardware, &reason),
            Err(error) => panic!("{error}"),
        };
        let taken = vsock(port()).map(drop).expect_err("the port is taken").to_string();
        assert!(taken.contains("--qgs vsock:"), "{taken}");
        if !leads_here(CID_LOCAL, port(), &listener) {
            return need::skip(Lack::Hardware, "the kernel has no vsock_loopback");
        }
        drop(listener);
        let _qgs = Qgs::serve(quotes(), QgsAddress::Vsock(port())).expect("the port is free again");
        let stream = Socket::new(Domain::VSOCK, Type::STREAM, None).expect("there is vsock");
        stream.connect(&SockAddr::vsock(CID_LOCAL, port())).expect("it listens");
        for _ in 0..2 {
            (&stream).write_all(&request()).expect("it reads");
            assert!(matches!(Message::read(&answer(&stream)), Ok(Message::GetPlatformInfoResp { .. })));
        }
    }

    #[test]
    fn nonsense_ends_its_own_connection_only() {
        let (_directory, path, _qgs) = service();
        let long = u32::MAX.to_be_bytes();
        let unknown = [&8_u32.to_be_bytes()[..], &[0xff; 8]].concat();
        for nonsense in [&long[..], &unknown, &request()[..6]] {
            let mut stream = UnixStream::connect(&path).expect("it listens");
            stream.write_all(nonsense).expect("it reads");
            stream.shutdown(std::net::Shutdown::Write).expect("it is open");
            let mut rest = Vec::new();
            // The service may close while bytes are left, which resets the connection.
            let _ = stream.read_to_end(&mut rest);
            assert!(rest.is_empty());
        }
        let mut stream = UnixStream::connect(&path).expect("it listens");
        stream.write_all(&request()).expect("it reads");
        assert!(!answer(&stream).is_empty());
    }
}
