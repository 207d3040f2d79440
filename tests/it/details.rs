//! Small promises of the public face, each shown once for all that make it.

mod bounds;
mod breakers;
mod classifiers;
mod files;
mod handles;
mod hedges;
mod permits;
mod presets;
mod strategies;
