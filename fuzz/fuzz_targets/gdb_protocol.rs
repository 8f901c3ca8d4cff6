//! A gdb stub that answers anything. The first byte: how many requests (5 bits); each: a byte. Then what the stub sends, in pieces: 0
//! bytes as they are, 1 a packet with its sum, 2 one with escapes and repetitions as they are: length (2) and bytes. It has sent
//! all of that, and closed its end, before the first request.
#![no_main]

use std::{
    io::Write as _,
    net::Shutdown,
    os::unix::net::UnixStream,
    time::{Duration, Instant},
};

use libfuzzer_sys::fuzz_target;
use tsmsim_fuzz::Input;
use tsmsim_vmm::engine::{
    Registers,
    qemu::protocol::{Client, ProtocolError},
};

/// Fits into a socket's buffer: the peer does not wait.
const MOST: usize = 64 << 10;

fuzz_target!(|bytes: &[u8]| {
    let mut input = Input::new(bytes);
    let count = usize::from(input.u8() & 31);
    let requests = input.bytes(count);
    let mut sent = Vec::new();
    while !input.is_empty() && sent.len() < MOST {
        match input.u8() & 3 {
            0 => sent.extend(input.sized()),
            1 => packet(&mut sent, &escaped(input.sized())),
            _ => packet(&mut sent, input.sized()),
        }
    }
    sent.truncate(MOST);
    let (ours, mut peer) = UnixStream::pair().expect("there are sockets");
    peer.write_all(&sent).expect("the buffer has room");
    peer.shutdown(Shutdown::Write).expect("it is connected");
    let Ok(mut client) = Client::new(ours) else { return };
    for request in requests {
        if let Err(error) = ask(&mut client, *request) {
            assert!(!matches!(error, ProtocolError::Timeout(_)), "what was sent is there: {error}");
        }
    }
});

fn ask(client: &mut Client, request: u8) -> Result<(), ProtocolError> {
    let mut memory = vec![0; usize::from(request) << 5];
    match request & 15 {
        0 => drop(client.registers()?),
        1 => client.set_registers(&Registers::default())?,
        2 => assert!(!client.register(request.into())?.is_empty()),
        3 => client.set_register(request.into(), &[request; 8])?,
        4 => client.read_memory(u64::MAX - 100, &mut memory)?,
        5 => client.write_memory(0x1000, &memory)?,
        6 => client.write_physical(0xfee0_0000, &memory)?,
        7 => client.insert_breakpoint(request.into())?,
        8 => client.remove_breakpoint(request.into())?,
        9 => drop(client.step()?),
        10 => client.resume(None)?,
        11 => client.resume(Some(&Registers::default()))?,
        12 | 13 => drop(client.wait(Instant::now() + Duration::from_secs(5))?),
        14 => client.interrupt()?,
        _ => drop(client.monitor("info registers")?),
    }
    Ok(())
}

/// Escapes what may not stand in a packet.
fn escaped(bytes: &[u8]) -> Vec<u8> {
    let escape = |&byte: &u8| match byte {
        b'$' | b'#' | b'}' | b'*' => vec![b'}', byte ^ 0x20],
        _ => vec![byte],
    };
    bytes.iter().flat_map(escape).collect()
}

fn packet(sent: &mut Vec<u8>, body: &[u8]) {
    let sum = body.iter().fold(0_u8, |sum, byte| sum.wrapping_add(*byte));
    sent.push(b'$');
    sent.extend(body);
    sent.extend(format!("#{sum:02x}").bytes());
}
