//! StornX.
fn main() {}
