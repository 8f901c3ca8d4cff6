//! Any bytes, and bytes that were damaged.

use proptest::prelude::*;

pub(crate) fn bytes() -> impl Strategy<Value = Vec<u8>> {
    prop::collection::vec(any::<u8>(), 0..1600)
}

/// Genuine bytes with some of them overwritten, and cut or lengthened.
pub(crate) fn damaged(genuine: Vec<u8>) -> impl Strategy<Value = Vec<u8>> {
    let edits = prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..8);
    (edits, any::<prop::sample::Index>(), 0..8_u8).prop_map(move |(edits, cut, how)| {
        let mut bytes = genuine.clone();
        for (index, value) in edits {
            let at = index.index(bytes.len());
            bytes[at] = value;
        }
        match how {
            0 => bytes.truncate(cut.index(bytes.len())),
            1 => bytes.push(how),
            _ => {}
        }
        bytes
    })
}
