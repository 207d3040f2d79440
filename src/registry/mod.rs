//! Registry: one place that knows the services of a process, and what their policies know.
