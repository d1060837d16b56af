//! The only source of chance in a run: one seeded generator, the same on every platform.

use rand::{Rng, RngCore, SeedableRng};
use rand_chacha::ChaCha8Rng;

use crate::types::Span;

/// A seeded generator with the few throws that the simulator needs.
#[derive(Debug)]
pub(super) struct Dice(ChaCha8Rng);

impl Dice {
    /// Dice for one purpose of a run: other purposes of the same seed throw apart from it.
    pub(super) fn new(seed: u64, purpose: u64) -> Self {
        let mut rng = ChaCha8Rng::seed_from_u64(seed);
        rng.set_stream(purpose);
        Self(rng)
    }

    /// Any number.
    pub(super) fn number(&mut self) -> u64 {
        self.0.next_u64()
    }

    /// From `low` up to `high`, exclusive; `low` if there is nothing between.
    pub(super) fn between(&mut self, low: u64, high: u64) -> u64 {
        if low >= high {
            return low;
        }
        self.0.gen_range(low..high)
    }

    /// A position below `count`, which is not zero.
    pub(super) fn below(&mut self, count: usize) -> usize {
        self.0.gen_range(0..count)
    }

    /// True in `permille` of a thousand throws.
    pub(super) fn chance(&mut self, permille: u32) -> bool {
        permille > 0 && self.0.gen_range(0..1_000) < permille
    }

    /// From `low` to `high` milliseconds, in steps of a microsecond.
    pub(super) fn millis(&mut self, low: u64, high: u64) -> Span {
        Span(self.between(low * 1_000, high * 1_000) * 1_000)
    }

    /// From `low` to `high` microseconds.
    pub(super) fn micros(&mut self, low: u64, high: u64) -> Span {
        Span(self.between(low * 1_000, high * 1_000))
    }

    /// One of `items`, which is not empty.
    pub(super) fn pick<'a, T>(&mut self, items: &'a [T]) -> &'a T {
        &items[self.below(items.len())]
    }

    /// Random bytes.
    pub(super) fn bytes(&mut self, count: usize) -> Vec<u8> {
        let mut bytes = vec![0; count];
        self.0.fill_bytes(&mut bytes);
        bytes
    }
}
