//! Free ports on 127.0.0.1. A port is chosen by the system and given back before its
//! server binds it; ports that this process gave out are not given again.

use std::{
    collections::BTreeSet,
    net::{Ipv4Addr, TcpListener},
    sync::{Mutex, PoisonError},
};

use crate::error::{Result, Tried};

static GIVEN: Mutex<BTreeSet<u16>> = Mutex::new(BTreeSet::new());

/// A port that nobody listens on.
///
/// # Errors
/// When the system has none.
pub fn free() -> Result<u16> {
    let mut given = GIVEN.lock().unwrap_or_else(PoisonError::into_inner);
    loop {
        let choosing = || "choose a port".to_owned();
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).tried(choosing)?;
        let port = listener.local_addr().tried(choosing)?.port();
        if given.insert(port) {
            return Ok(port);
        }
    }
}
