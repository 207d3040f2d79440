//! Isolation: each service behind as much protection as it needs, switched while in use.
