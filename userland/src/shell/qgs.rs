//! The quote generation service on a Unix socket, as DCAP's `qgsd` listens: each message follows its length, four bytes,
//! most significant first (`qgs_server.cpp`, and `tdx_attest.c` on the client's side).

use std::{
    io::{self, ErrorKind, Read, Write},
    os::unix::net::{UnixListener, UnixStream},
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    thread,
    time::Duration,
};

use tsmsim_simulator::tdx::qgs::QuoteService;

use super::error::ShellError;

/// Longest message that is read: a request with its TDREPORT has about a thousand bytes.
const MAX_MESSAGE: usize = 64 * 1024;

/// Connections that are served at once; further ones are closed.
const MAX_CONNECTIONS: usize = 64;

/// How long a connection may be silent.
const PATIENCE: Duration = Duration::from_secs(30);

/// The service. The socket's name goes away with this.
pub struct Qgs {
    path: PathBuf,
}

impl Qgs {
    /// Serves at a path that must not exist yet.
    ///
    /// # Errors
    /// The socket cannot be made there.
    pub fn serve(service: QuoteService, path: &Path) -> Result<Self, ShellError> {
        let refused = |error| ShellError::Usage(format!("--qgs {}: {error}", path.display()));
        let listener = UnixListener::bind(path).map_err(refused)?;
        let qgs = Self { path: path.to_owned() };
        let service = Arc::new(service);
        thread::Builder::new()
            .name("tsmsim-qgs".to_owned())
            .spawn(move || accept(&listener, &service))
            .map_err(ShellError::failed("starting a thread"))?;
        Ok(qgs)
    }
}

impl Drop for Qgs {
    fn drop(&mut self) {
        // Somebody may have removed it.
        let _ = std::fs::remove_file(&self.path);
    }
}

fn accept(listener: &UnixListener, service: &Arc<QuoteService>) {
    let open = Arc::new(AtomicUsize::new(0));
    for stream in listener.incoming() {
        let Ok(stream) = stream else {
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
fn converse(mut stream: &UnixStream, service: &QuoteService) -> io::Result<()> {
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
    use tsmsim_abi::tdx::qgs::Message;
    use tsmsim_keys::Seed;
    use tsmsim_simulator::tdx::{platform::TdxPlatformConfig, quoting::QuotingEnclave};

    use super::*;

    fn service() -> (tempfile::TempDir, PathBuf, Qgs) {
        let platform = TdxPlatformConfig::tdx_1_5().build(&Seed::DEFAULT).expect("a platform");
        let service = QuoteService::new(QuotingEnclave::new(&platform).expect("an enclave"));
        let directory = tempfile::tempdir().expect("a temporary directory");
        let path = directory.path().join("qgs.socket");
        let qgs = Qgs::serve(service, &path).expect("the path is free");
        (directory, path, qgs)
    }

    fn request() -> Vec<u8> {
        let request = Message::GetPlatformInfoReq;
        let mut bytes = vec![0; request.size()];
        request.write(&mut bytes).expect("it has the size");
        [&u32::try_from(bytes.len()).expect("it is short").to_be_bytes()[..], &bytes].concat()
    }

    fn answer(stream: &mut UnixStream) -> Vec<u8> {
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
            let answer = answer(&mut stream);
            assert!(matches!(Message::read(&answer), Ok(Message::GetPlatformInfoResp { .. })));
        }
        let taken = service_error(&path);
        assert!(taken.contains("--qgs"), "{taken}");
        drop(qgs);
        assert!(!path.exists());
    }

    fn service_error(path: &Path) -> String {
        let platform = TdxPlatformConfig::tdx_1_5().build(&Seed::DEFAULT).expect("a platform");
        let service = QuoteService::new(QuotingEnclave::new(&platform).expect("an enclave"));
        Qgs::serve(service, path).map(drop).expect_err("the path is taken").to_string()
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
        assert!(!answer(&mut stream).is_empty());
    }
}
