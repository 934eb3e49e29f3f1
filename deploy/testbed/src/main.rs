//! The test bed for people.

fn main() {}
