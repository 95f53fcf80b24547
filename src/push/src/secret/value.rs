//! An opened secret.

use std::fmt;

use zeroize::Zeroizing;

/// The content of a secret. It is wiped when it is dropped, and has no way to be shown, compared by
/// accident or serialised: whoever needs the bytes says so by [`Secret::expose`].
#[derive(Clone)]
pub struct Secret(Zeroizing<Vec<u8>>);

impl Secret {
    /// Takes over content, without leaving a copy.
    pub fn new(content: Zeroizing<Vec<u8>>) -> Self {
        Self(content)
    }

    /// The content.
    pub fn expose(&self) -> &[u8] {
        &self.0
    }

    /// The content, for whoever wipes it as well.
    pub fn into_content(self) -> Zeroizing<Vec<u8>> {
        self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a secret")
    }
}
