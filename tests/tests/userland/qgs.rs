//! `--qgs SOCKET` and `--qgs vsock:PORT`.

use std::{
    fs,
    io::{Read, Write},
    os::unix::net::UnixStream,
    thread,
    time::Duration,
};

use tsmsim_abi::tdx::qgs::Message;

use crate::session::{Session, Who};

fn ask(stream: &mut UnixStream, request: &Message<'_>) -> Vec<u8> {
    let mut message = vec![0; request.size()];
    request.write(&mut message).unwrap();
    stream.write_all(&u32::try_from(message.len()).unwrap().to_be_bytes()).unwrap();
    stream.write_all(&message).unwrap();
    let mut size = [0; 4];
    stream.read_exact(&mut size).unwrap();
    let mut answer = vec![0; u32::from_be_bytes(size) as usize];
    stream.read_exact(&mut answer).unwrap();
    answer
}

#[test]
fn the_service_quotes_reports_of_its_platform() {
    let Some(session) = Session::find(Who::Root) else { return };
    let out = session.out.path();
    session.tsmsim(&["report", "--tee", "tdx", "--out", "same"]).with_status(0);
    let wait = "touch ready; while [ ! -e go ]; do sleep 0.01; done";
    let mut command = session.command(&["run", "--tee", "tdx", "--qgs", "qgs", "--", "sh", "-c", wait]);
    let mut child = command.spawn().unwrap();
    while !out.join("ready").exists() {
        thread::sleep(Duration::from_millis(5));
    }
    let mut stream = UnixStream::connect(out.join("qgs")).unwrap();
    let report = session.file("same/tdreport.bin");
    let answer = ask(&mut stream, &Message::GetQuoteReq { report: &report, id_list: &[] });
    let Ok(Message::GetQuoteResp { quote, .. }) = Message::read(&answer) else { panic!("{answer:?}") };
    fs::write(out.join("quote"), quote).unwrap();
    // One byte wrong, and it is no report of this platform.
    let mut wrong = report;
    wrong[100] ^= 1;
    let answer = ask(&mut stream, &Message::GetQuoteReq { report: &wrong, id_list: &[] });
    assert!(matches!(Message::read(&answer), Ok(Message::Error { .. })), "{answer:?}");
    fs::write(out.join("go"), "").unwrap();
    assert!(child.wait().unwrap().success());
    assert!(!out.join("qgs").exists());
    session.tsmsim(&["verify", "--report", "quote", "--collateral", "same/collateral.json"]).with_status(0);
}

#[test]
fn the_service_is_intels() {
    let Some(session) = Session::find(Who::Root) else { return };
    session.script("--tee snp --qgs qgs", "true").with_status(2);
    fs::write(session.out.path().join("taken"), "").unwrap();
    session.script("--tee tdx --qgs taken", "true").with_status(2);
    assert_eq!(session.file("taken"), b"");
}

#[test]
fn the_service_is_on_vsock_and_a_socket_at_once() {
    let Some(session) = Session::find(Who::Root) else { return };
    // Where vsock is not there, it is said what would help; where it is, but leads nowhere, a warning says so.
    let port = 0x4000_0000 + std::process::id();
    let said = session.script(&format!("--tee tdx --qgs vsock:{port} --qgs qgs"), "test -S qgs");
    match said.output.status.code() {
        Some(0) => assert!(said.err().is_empty() || said.err().contains("vsock_loopback"), "{}", said.err()),
        Some(3) => assert!(said.err().contains("vsock_loopback"), "{}", said.err()),
        other => panic!("{other:?}: {}", said.err()),
    }
}
