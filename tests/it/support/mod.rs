//! What tests start and speak with: real servers on free ports in temporary folders.

pub mod process;
pub mod redis;
