//! Small promises of the public face, each shown once for all that make it.

mod bounds;
mod breakers;
mod classifiers;
mod clients;
mod contracts;
mod discoveries;
mod files;
mod handles;
mod hedges;
#[cfg(feature = "http")]
mod https;
mod isolations;
mod layers;
mod permits;
mod presets;
mod strategies;
mod words;
