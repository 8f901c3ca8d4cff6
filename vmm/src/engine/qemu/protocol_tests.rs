//! A scripted peer at the other end.

use std::{
    io::{Read as _, Write as _},
    thread::JoinHandle,
};

use proptest::prelude::*;
use rstest::rstest;

use super::*;

/// Answers the handshake as QEMU does, and then each packet with the next bytes of the script, as they are. Gives the
/// packets that came.
fn peer(script: &[&[u8]]) -> (Client, JoinHandle<Vec<Vec<u8>>>) {
    let (host, mut stub) = UnixStream::pair().unwrap();
    let mut script: Vec<Vec<u8>> = script.iter().map(|bytes| bytes.to_vec()).collect();
    script.insert(0, b"+$#00".to_vec());
    let thread = std::thread::spawn(move || {
        let (mut seen, mut bytes) = (Vec::new(), Vec::new());
        for answer in script {
            loop {
                if let Some((packet, taken)) = take_packet(&bytes).unwrap() {
                    bytes.drain(..taken);
                    seen.push(packet);
                    break;
                }
                let mut buf = [0; 4096];
                match stub.read(&mut buf).unwrap() {
                    0 => return seen,
                    count => bytes.extend_from_slice(&buf[..count]),
                }
            }
            stub.write_all(&answer).unwrap();
        }
        seen
    });
    (Client::new(host).unwrap(), thread)
}

fn soon() -> Instant {
    Instant::now() + Duration::from_secs(60)
}

/// A packet `g` of QEMU's in which register n has the value n.
fn registers_answer() -> Vec<u8> {
    let mut bytes: Vec<u8> = (0u64..17).flat_map(u64::to_le_bytes).collect();
    bytes.extend(2u32.to_le_bytes());
    bytes.resize(236 + 100, 0);
    let mut text = Vec::new();
    push_hex(&mut text, &bytes);
    // What the stub does not have.
    text.extend(b"xxxxxxxx");
    frame(&text)
}

#[test]
fn registers_are_read_and_written_as_far_as_needed() {
    let (mut client, peer) =
        peer(&[&registers_answer(), &frame(b"OK"), &frame(b"OK"), &frame(b"T05thread:01;")]);
    let file = client.registers().unwrap();
    assert_eq!((file.general.rax, file.general.rbp, file.general.rsp, file.general.rip), (0, 6, 7, 16));
    client.set_registers(&file.general).unwrap();
    client.resume(Some(&file.general)).unwrap();
    assert_eq!(client.wait(soon()), Ok(Some(Stop::Signal(5))));
    drop(client);
    let packets = peer.join().unwrap();
    assert_eq!(packets[1], b"g");
    assert_eq!(packets[2].len(), 1 + 2 * GENERAL_BYTES);
    assert!(packets[2].starts_with(b"G0000000000000000") && packets[2] == packets[3]);
}

#[test]
fn memory_goes_in_pieces() {
    let piece = frame(&[b'5'; 2 * MEMORY_CHUNK]);
    let (mut client, peer) = peer(&[&piece, &frame(b"5555"), &frame(b"OK"), &frame(b"OK")]);
    let mut buf = [0; MEMORY_CHUNK + 2];
    client.read_memory(u64::MAX - 1023, &mut buf).unwrap();
    assert_eq!(buf, [0x55; MEMORY_CHUNK + 2]);
    client.write_memory(0x10, &buf).unwrap();
    drop(client);
    let packets = peer.join().unwrap();
    assert_eq!(packets[1], b"mfffffffffffffc00,400");
    assert_eq!(packets[2], b"m0,2", "addresses wrap as the processor's do");
    assert_eq!(packets[4], b"M410,2:5555");
}

#[test]
fn single_registers_breakpoints_and_steps() {
    let answers: [&[u8]; 6] = [b"efbe", b"OK", b"OK", b"OK", b"S05", b"OK"];
    let answers = answers.map(frame);
    let script: Vec<&[u8]> = answers.iter().map(Vec::as_slice).collect();
    let (mut client, peer) = peer(&script);
    assert_eq!(client.register(0x12), Ok(vec![0xef, 0xbe]));
    client.set_register(1, &[1, 0xff]).unwrap();
    client.insert_breakpoint(0xffff_ffff_8100_0000).unwrap();
    client.remove_breakpoint(0x10).unwrap();
    assert_eq!(client.step(), Ok(Stop::Signal(5)));
    drop(client);
    let packets = peer.join().unwrap();
    let expected: [&[u8]; 5] = [b"p12", b"P1=01ff", b"Z0,ffffffff81000000,1", b"z0,10,1", b"s"];
    assert_eq!(packets[1..6], expected);
}

#[test]
fn the_monitor_prints_in_pieces() {
    let answer = [frame(b"O4944"), frame(b"O543d"), frame(b"OK")].concat();
    let (mut client, peer) = peer(&[&answer]);
    assert_eq!(client.monitor("info registers"), Ok("IDT=".to_owned()));
    drop(client);
    assert_eq!(peer.join().unwrap()[1], b"qRcmd,696e666f20726567697374657273");
}

#[test]
fn physical_memory_is_a_mode_that_ends() {
    let ok = frame(b"OK");
    let (mut client, peer) = peer(&[&ok, &frame(b"E14"), &ok]);
    assert!(client.write_physical(0xfee0_0000, &[1]).is_err());
    drop(client);
    let packets = peer.join().unwrap();
    assert_eq!(packets[1..], [&b"Qqemu.PhyMemMode:1"[..], b"Mfee00000,1:01", b"Qqemu.PhyMemMode:0"]);
}

#[rstest]
#[case::error(b"$E01#a6", "E01")]
#[case::nothing(b"$#00", "")]
#[case::too_short(b"$0011#c2", "0011")]
#[case::no_digits(b"$hello!#35", "hello!")]
fn strange_answers_are_told(#[case] answer: &[u8], #[case] shown: &str) {
    let (mut client, _) = peer(&[answer]);
    let expected = ProtocolError::Refused { command: "g".to_owned(), answer: shown.to_owned() };
    assert_eq!(client.registers(), Err(expected));
    assert!(!client.is_gone());
}

#[rstest]
#[case::checksum(b"$OK#00", ProtocolError::Checksum)]
#[case::no_number(b"$OK#zz", ProtocolError::Malformed("a checksum that is no number"))]
#[case::rubbish(b"OK", ProtocolError::Malformed("bytes between packets"))]
#[case::again(b"-", ProtocolError::Malformed("it wants a packet again"))]
#[case::escape_of_nothing(b"$}#7d", ProtocolError::Malformed("an escape of nothing"))]
#[case::repetition_of_nothing(b"$*!#4b", ProtocolError::Malformed("a repetition of nothing"))]
#[case::repetition_without_count(b"$0*#5a", ProtocolError::Malformed("a repetition without a count"))]
#[case::truncated(b"$OK", ProtocolError::Closed)]
#[case::exited(b"$W00#b7", ProtocolError::Closed)]
#[case::killed(b"$X09#c1", ProtocolError::Closed)]
fn broken_packets_are_errors(#[case] answer: &[u8], #[case] expected: ProtocolError) {
    let (mut client, _) = peer(&[answer]);
    let gone = expected == ProtocolError::Closed;
    assert_eq!(client.insert_breakpoint(0), Err(expected));
    assert_eq!(client.is_gone(), gone);
}

#[test]
fn a_packet_without_end_is_not_kept() {
    let (host, mut stub) = UnixStream::pair().unwrap();
    let writer = std::thread::spawn(move || {
        // Until the client gives up and hangs up.
        while stub.write_all(&[b'$'; 64 << 10]).is_ok() {}
    });
    assert_eq!(Client::new(host).unwrap_err(), ProtocolError::TooLong);
    writer.join().unwrap();
}

#[test]
fn what_runs_on_is_not_waited_for_for_ever() {
    let (host, _stub) = UnixStream::pair().unwrap();
    let mut client = Client { stream: host, pending: Vec::new(), gone: false };
    assert_eq!(client.wait(Instant::now() + Duration::from_millis(5)), Ok(None));
}

#[test]
fn a_slow_peer_is_waited_for() {
    let (mut client, host) = (UnixStream::pair().unwrap(), frame(b"T05"));
    let waited = std::thread::spawn(move || {
        let mut client = Client { stream: client.0, pending: Vec::new(), gone: false };
        client.wait(soon())
    });
    for byte in host {
        client.1.write_all(&[byte]).unwrap();
        std::thread::sleep(Duration::from_millis(1));
    }
    assert_eq!(waited.join().unwrap(), Ok(Some(Stop::Signal(5))));
}

#[rstest]
#[case::console_text(b"$O41#b4$T02#b6", Some(Stop::Signal(2)))]
#[case::notification(b"%Stop:T05#99$T05#b9", Some(Stop::Signal(5)))]
#[case::exit(b"$W00#b7", Some(Stop::Exited))]
fn stops(#[case] bytes: &'static [u8], #[case] expected: Option<Stop>) {
    let (host, mut stub) = UnixStream::pair().unwrap();
    stub.write_all(bytes).unwrap();
    let mut client = Client { stream: host, pending: Vec::new(), gone: false };
    assert_eq!(client.wait(soon()), Ok(expected));
    drop(stub);
    assert_eq!(client.wait(soon()), Ok(Some(Stop::Exited)), "a closed connection is an end");
}

#[rstest]
#[case::plain(b"$abc#26", b"abc")]
#[case::run(b"$0* #7a", b"0000")]
#[case::longest_run(b"$0*~#d8", &[b'0'; 98])]
#[case::escape(b"$}\x03#80", b"#")]
#[case::after_acknowledgements(b"++$OK#9a", b"OK")]
fn packets_are_decoded(#[case] bytes: &[u8], #[case] packet: &[u8]) {
    assert_eq!(take_packet(bytes), Ok(Some((packet.to_vec(), bytes.len()))));
}

proptest! {
    #[test]
    fn what_is_framed_is_taken(packet: Vec<u8>, rest: Vec<u8>) {
        let mut bytes = frame(&packet);
        let length = bytes.len();
        bytes.extend(rest);
        prop_assert_eq!(take_packet(&bytes), Ok(Some((packet, length))));
    }

    #[test]
    fn any_bytes_are_answered(bytes: Vec<u8>) {
        let _ = take_packet(&bytes);
        let mut packet = b"$".to_vec();
        packet.extend(bytes.iter().filter(|byte| **byte != b'#'));
        let sum = checksum(&packet[1..]);
        packet.push(b'#');
        push_hex(&mut packet, &[sum]);
        let _ = take_packet(&packet);
    }
}
