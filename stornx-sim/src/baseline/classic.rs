//! `classic`
