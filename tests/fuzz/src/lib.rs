//! What the fuzz targets do.

pub mod exercise;
pub mod subjects;
pub mod targets;
