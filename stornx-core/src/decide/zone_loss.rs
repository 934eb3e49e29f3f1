//! What survives the loss of each zone.
