//! The one shape of a checked text: a value of such a type has passed its check, wherever it came
//! from, and can be read but not changed.

/// Declares a type whose values are texts that passed a check, `fn(&str) -> Result<(), Error>`.
/// Parsing and deserialising both check.
#[macro_export]
macro_rules! checked_text {
    ($(#[$doc:meta])* $name:ident, $error:ty, $check:expr) => {
        $(#[$doc])*
        #[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, ::serde::Serialize, ::serde::Deserialize)]
        #[serde(try_from = "String", into = "String")]
        pub struct $name(String);

        impl $name {
            /// The text.
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl ::std::str::FromStr for $name {
            type Err = $error;
            fn from_str(text: &str) -> ::std::result::Result<Self, $error> {
                let check: fn(&str) -> ::std::result::Result<(), $error> = $check;
                check(text)?;
                Ok(Self(text.to_owned()))
            }
        }

        impl ::std::convert::TryFrom<String> for $name {
            type Error = $error;
            fn try_from(text: String) -> ::std::result::Result<Self, $error> {
                text.parse()
            }
        }

        impl ::std::convert::From<$name> for String {
            fn from(checked: $name) -> String {
                checked.0
            }
        }

        impl ::std::convert::AsRef<str> for $name {
            fn as_ref(&self) -> &str {
                &self.0
            }
        }

        impl ::std::borrow::Borrow<str> for $name {
            fn borrow(&self) -> &str {
                &self.0
            }
        }

        impl ::std::fmt::Display for $name {
            fn fmt(&self, f: &mut ::std::fmt::Formatter<'_>) -> ::std::fmt::Result {
                f.pad(&self.0)
            }
        }

        impl ::std::fmt::Debug for $name {
            fn fmt(&self, f: &mut ::std::fmt::Formatter<'_>) -> ::std::fmt::Result {
                write!(f, "{:?}", self.0)
            }
        }
    };
}
