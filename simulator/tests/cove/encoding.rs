//! A reader of CBOR that is none of the crates that wrote it: deterministic encoding only, no indefinite lengths.

use std::fmt::Write;

/// One item.
#[derive(Clone, PartialEq, Debug)]
pub(crate) enum Item {
    /// An integer.
    Int(i64),
    /// A byte string.
    Bytes(Vec<u8>),
    /// A text string.
    Text(String),
    /// An array.
    Array(Vec<Item>),
    /// A map, in the order of the bytes.
    Map(Vec<(Item, Item)>),
    /// A tag.
    Tag(u64, Box<Item>),
}

/// Reads one item, and demands that nothing follows.
pub(crate) fn read(bytes: &[u8]) -> Item {
    let mut rest = bytes;
    let item = item(&mut rest);
    assert!(rest.is_empty(), "{} bytes follow", rest.len());
    item
}

fn take<'a>(rest: &mut &'a [u8], count: usize) -> &'a [u8] {
    let (bytes, after) = rest.split_at(count);
    *rest = after;
    bytes
}

fn argument(rest: &mut &[u8], info: u8) -> u64 {
    let size = match info {
        0..24 => return info.into(),
        24..28 => 1 << (info - 24),
        _ => panic!("additional information {info}"),
    };
    let value = take(rest, size).iter().fold(0, |value, byte| value << 8 | u64::from(*byte));
    let shortest = [24, 1 << 8, 1 << 16, 1 << 32][usize::from(info - 24)];
    assert!(value >= shortest, "{value} is not in its shortest form");
    value
}

fn item(rest: &mut &[u8]) -> Item {
    let head = take(rest, 1)[0];
    let argument = argument(rest, head & 0x1f);
    let count = usize::try_from(argument).unwrap();
    match head >> 5 {
        0 => Item::Int(argument.try_into().unwrap()),
        1 => Item::Int(-1 - i64::try_from(argument).unwrap()),
        2 => Item::Bytes(take(rest, count).to_vec()),
        3 => Item::Text(String::from_utf8(take(rest, count).to_vec()).unwrap()),
        4 => Item::Array((0..count).map(|_| item(rest)).collect()),
        5 => Item::Map((0..count).map(|_| (item(rest), item(rest))).collect()),
        6 => Item::Tag(argument, Box::new(item(rest))),
        major => panic!("major type {major}"),
    }
}

impl Item {
    pub(crate) fn get(&self, label: i64) -> Option<&Self> {
        self.find(&Self::Int(label))
    }

    pub(crate) fn at(&self, label: i64) -> &Self {
        self.get(label).unwrap_or_else(|| panic!("no {label} in {self:?}"))
    }

    pub(crate) fn named(&self, name: &str) -> &Self {
        self.find(&Self::Text(name.to_owned())).unwrap()
    }

    fn find(&self, key: &Self) -> Option<&Self> {
        let Self::Map(entries) = self else { panic!("not a map: {self:?}") };
        let mut found = entries.iter().filter(|(present, _)| present == key);
        let value = found.next().map(|(_, value)| value);
        assert!(found.next().is_none(), "twice: {key:?}");
        value
    }

    pub(crate) fn labels(&self) -> Vec<i64> {
        let Self::Map(entries) = self else { panic!("not a map: {self:?}") };
        let int =
            |key: &Self| if let Self::Int(label) = key { *label } else { panic!("not a label: {key:?}") };
        entries.iter().map(|(key, _)| int(key)).collect()
    }

    pub(crate) fn untag(&self, expected: u64) -> &Self {
        match self {
            Self::Tag(tag, item) if *tag == expected => item,
            _ => panic!("not tagged {expected}: {self:?}"),
        }
    }

    pub(crate) fn bytes(&self) -> &[u8] {
        if let Self::Bytes(bytes) = self { bytes } else { panic!("not bytes: {self:?}") }
    }

    pub(crate) fn text(&self) -> &str {
        if let Self::Text(text) = self { text } else { panic!("not text: {self:?}") }
    }

    pub(crate) fn array(&self) -> &[Self] {
        if let Self::Array(items) = self { items } else { panic!("not an array: {self:?}") }
    }
}

pub(crate) fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |mut text, byte| {
        write!(text, "{byte:02x}").unwrap();
        text
    })
}

/// The head of a byte string or of an array.
fn head(major: u8, count: usize) -> Vec<u8> {
    let (major, count) = (major << 5, u16::try_from(count).unwrap());
    match u8::try_from(count) {
        Ok(count @ 0..24) => vec![major | count],
        Ok(count) => vec![major | 24, count],
        Err(_) => [&[major | 25], count.to_be_bytes().as_slice()].concat(),
    }
}

/// `Sig_structure` of `COSE_Sign1` (RFC 9052 section 4.4), without external data.
pub(crate) fn sig_structure(protected: &[u8], payload: &[u8]) -> Vec<u8> {
    let string = |bytes: &[u8]| [head(2, bytes.len()), bytes.to_vec()].concat();
    [&[0x84, 0x6a], b"Signature1".as_slice(), &string(protected), &[0x40], &string(payload)].concat()
}
