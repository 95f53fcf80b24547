//! push-host.
fn main() {}
