//! Taking over content that another repository holds.
