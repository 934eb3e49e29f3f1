//! The independent checker of plans.
