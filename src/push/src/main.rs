//! push.
fn main() {}
