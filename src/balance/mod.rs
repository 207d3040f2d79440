//! Balance: one service over many instances, which come and go.
