//! Client: calls of services by name.
