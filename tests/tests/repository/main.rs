//! The tests of the repository itself: its layers, the pages that walk through its code, where its test vectors come
//! from, its style. Each check is a function of what it reads, and is tested with a made-up violation too.

mod flows;
mod layering;
mod markdown;
mod provenance;
mod source;
mod style;
