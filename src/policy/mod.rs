//! Floor 2: may this name be issued?

pub mod caa;
pub mod names;
pub mod special;
