//! Contract: what a service promises, and what is known of its instances.
