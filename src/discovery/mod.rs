//! Discovery: which instances of a service there are now, and what changes.
