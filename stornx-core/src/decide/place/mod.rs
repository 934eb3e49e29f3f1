//! Where a new replica goes, and which replica leaves.
