//! Opens what a generation keeps sealed: one secret, or several that are put together here, so that
//! nobody else has to be able to open them.

use push_wire::bundle::{Bundle, Piece};
use zeroize::Zeroizing;

use crate::machine::World;

/// The content of a secret file. The reason why not never holds content.
pub fn open<M: World>(machine: &M, sealed: &[u8]) -> Result<Zeroizing<Vec<u8>>, String> {
    let Some(bundle) = Bundle::decode(sealed) else {
        return machine.unseal(sealed);
    };
    let mut whole = Zeroizing::new(Vec::new());
    for piece in bundle?.pieces {
        match piece {
            Piece::Text(text) => append(&mut whole, text.as_bytes()),
            Piece::Sealed { content, form } => {
                let opened = machine.unseal(&content.0)?;
                let written = form.write(&opened).map_err(|error| error.to_string())?;
                append(&mut whole, &Zeroizing::new(written));
            }
        }
    }
    Ok(whole)
}

/// Grows into new memory, and wipes the old.
fn append(whole: &mut Zeroizing<Vec<u8>>, more: &[u8]) {
    if whole.len() + more.len() > whole.capacity() {
        let mut larger = Zeroizing::new(Vec::with_capacity(2 * (whole.len() + more.len())));
        larger.extend_from_slice(whole);
        *whole = larger;
    }
    whole.extend_from_slice(more);
}
