//! Declaring codes and pinning layouts.

/// An open set of codes: a transparent newtype with named constants. Unknown values survive and print as numbers.
macro_rules! open_codes {
    (
        $(#[$meta:meta])*
        pub struct $name:ident($inner:ty);
        $( $(#[$cmeta:meta])* $konst:ident = $value:expr; )*
    ) => {
        $(#[$meta])*
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name(pub $inner);

        impl $name {
            $( $(#[$cmeta])* pub const $konst: Self = Self($value); )*

            /// Every named code, in the order of the declaration.
            pub const NAMED: &'static [(Self, &'static str)] = &[ $( (Self::$konst, stringify!($konst)) ),* ];

            /// The specification's name of this code, if it has one.
            #[must_use]
            pub fn name(self) -> Option<&'static str> {
                Self::NAMED.iter().find(|(code, _)| *code == self).map(|(_, name)| *name)
            }
        }

        impl core::fmt::Display for $name {
            fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
                match self.name() {
                    Some(name) => write!(f, "{name} ({:#x})", self.0),
                    None => write!(f, "{:#x}", self.0),
                }
            }
        }

        impl core::fmt::Debug for $name {
            fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
                core::fmt::Display::fmt(self, f)
            }
        }

        impl From<$inner> for $name {
            fn from(value: $inner) -> Self {
                Self(value)
            }
        }
    };
}

/// Pins a layout: the size, and the offset of every field (a field left out does not compile).
macro_rules! assert_layout {
    ($name:ident, $size:literal, { $($field:ident: $offset:literal),* $(,)? }) => {
        const _: () = {
            assert!(core::mem::size_of::<$name>() == $size, concat!(stringify!($name), ": size"));
            $( assert!(
                core::mem::offset_of!($name, $field) == $offset,
                concat!(stringify!($name), ".", stringify!($field), ": offset")
            ); )*
            // Names every field, so that a new one without an asserted offset is a compile error.
            #[expect(dead_code, unused_variables, reason = "only its type-check matters")]
            fn every_field_is_listed(value: $name) {
                let $name { $($field),* } = value;
            }
        };
    };
}

/// The derives that every wire structure has: no padding, any bytes valid, alignment one.
macro_rules! wire {
    ($(#[$meta:meta])* pub struct $name:ident { $($body:tt)* }) => {
        $(#[$meta])*
        #[derive(
            Clone, Copy, PartialEq, Eq, Debug,
            zerocopy::FromBytes, zerocopy::IntoBytes, zerocopy::KnownLayout, zerocopy::Immutable, zerocopy::Unaligned,
        )]
        #[repr(C)]
        pub struct $name { $($body)* }
    };
}
