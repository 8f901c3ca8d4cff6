//! Any messages to the quote generation service, as they come over a stream without their frame, and as GetQuote requests.
#![no_main]

use libfuzzer_sys::fuzz_target;
use tsmsim_abi::tdx::qgs::{FrameHeader, Message};
use tsmsim_fuzz::tdx;
use tsmsim_simulator::tdx::qgs::QuoteService;
use zerocopy::FromBytes;

thread_local! {
    static SERVICE: QuoteService = tdx::service();
}

fuzz_target!(|bytes: &[u8]| {
    SERVICE.with(|service| {
        if let Some(response) = service.respond(bytes) {
            assert!(Message::read(&response).is_ok(), "a response reads");
        }
        let Ok(answer) = service.respond_raw(bytes) else { return };
        // A quote for a report; for a framed message a framed response.
        if let Ok((frame, response)) = FrameHeader::read_from_prefix(&answer)
            && bytes.len() != 1024
        {
            assert_eq!(usize::try_from(frame.size.get()).ok(), Some(response.len()), "the frame fits");
            assert!(Message::read(response).is_ok(), "a response reads");
        }
    });
});
