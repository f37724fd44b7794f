//! Names: one cheap-to-clone newtype for each kind of name, so that a team is never passed for a model.

use std::{borrow::Borrow, fmt, ops::Deref, sync::Arc};

macro_rules! name {
    ($($(#[$doc:meta])* $name:ident;)*) => {$(
        $(#[$doc])*
        #[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name(Arc<str>);

        impl $name {
            /// The name as text.
            pub fn as_str(&self) -> &str {
                &self.0
            }

            /// The shared text, for tables that outlive the name.
            pub fn shared(&self) -> Arc<str> {
                Arc::clone(&self.0)
            }
        }

        impl Deref for $name {
            type Target = str;
            fn deref(&self) -> &str {
                &self.0
            }
        }

        impl Borrow<str> for $name {
            fn borrow(&self) -> &str {
                &self.0
            }
        }

        impl From<&str> for $name {
            fn from(text: &str) -> Self {
                Self(text.into())
            }
        }

        impl From<String> for $name {
            fn from(text: String) -> Self {
                Self(text.into())
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.pad(&self.0)
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                fmt::Debug::fmt(&self.0, f)
            }
        }
    )*};
}

name! {
    /// A model as operators call it (`gpt-4o`), not as its vendor does.
    ModelName;
    /// An entry of `backends:`.
    BackendName;
    /// One credential of a backend.
    AccountName;
    /// An entry of `routes:`.
    RouteName;
    /// An entry of `teams:`.
    TeamName;
    /// The public part of a client key.
    KeyId;
    /// A benchmark with its metric (`livebench-2024-11-25/coding`).
    BenchmarkName;
    /// Where data goes (`eu`, `cn`).
    Location;
}
