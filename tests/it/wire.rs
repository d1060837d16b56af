//! The protocol against its specification: the tables and golden bytes of PROTOCOL.md, the clauses
//! that the codec keeps, and bytes that nobody meant well.

pub(crate) mod arbitrary;
mod clauses;
mod golden;
mod properties;

/// The page under test.
const SPECIFICATION: &str = include_str!("../../src/wire/PROTOCOL.md");
