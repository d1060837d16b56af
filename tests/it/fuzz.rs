//! Five fuzz targets on the stable toolchain: client frames, records, topologies, journal segments,
//! peer messages. Each input is made from its number alone: well-formed things of every shape, then
//! damaged. Nothing of it may panic, and each target states what must hold besides.
//!
//! By default each takes a few inputs, always the same. With `WEFT_FUZZ_SECONDS` it takes new ones
//! for so long; `.ci/run fuzz` does. One that fails is printed, with the command that takes it
//! again.

mod frames;
mod journal;
mod peers;
mod records;
mod topology;

use std::fmt::Debug;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::time::{Duration, Instant};

use proptest::strategy::{BoxedStrategy, Strategy, ValueTree};
use proptest::test_runner::{Config, RngAlgorithm, TestRng, TestRunner};
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;

/// Inputs of a target where no time is set.
const INPUTS: u64 = 150;

/// Well-formed values that inputs are made of.
const CORPUS: usize = 300;

/// Makes inputs and checks them, until the time is over or all are done.
fn fuzz<I: Debug>(
    target: &str,
    mut make: impl FnMut(&mut ChaCha8Rng) -> I,
    mut check: impl FnMut(&I),
) {
    let seconds = number("WEFT_FUZZ_SECONDS").map(Duration::from_secs);
    let only = number("WEFT_FUZZ_INPUT");
    // New ones each time, far from those of other runs.
    let fresh = || Duration::as_nanos(&std::time::UNIX_EPOCH.elapsed().unwrap_or_default()) as u64;
    let first = only.unwrap_or_else(|| seconds.map_or(0, |_| fresh()));
    let started = Instant::now();
    let goes_on = |done: u64| match (only, seconds) {
        (Some(_), _) => done == 0,
        (None, Some(seconds)) => started.elapsed() < seconds,
        (None, None) => done < INPUTS,
    };
    let mut done = 0;
    while goes_on(done) {
        let input_number = first.wrapping_add(done);
        let mut random = ChaCha8Rng::seed_from_u64(input_number);
        let input = make(&mut random);
        if let Err(panic) = catch_unwind(AssertUnwindSafe(|| check(&input))) {
            eprintln!("the fuzz target {target} fails on {input:?}");
            eprintln!(
                "take it again with:\n  WEFT_FUZZ_INPUT={input_number} cargo test --test it -- \
                 fuzz::{target}"
            );
            resume_unwind(panic);
        }
        done += 1;
    }
    eprintln!("{target}: {done} inputs from number {first} on");
}

fn number(variable: &str) -> Option<u64> {
    let text = std::env::var(variable).ok()?;
    let parsed = text.parse();
    Some(parsed.unwrap_or_else(|_| panic!("{variable}={text} is no number")))
}

/// Values of every shape that the strategy makes, always the same.
fn corpus<T: Debug>(strategy: &BoxedStrategy<T>) -> Vec<T> {
    let rng = TestRng::deterministic_rng(RngAlgorithm::ChaCha);
    let mut runner = TestRunner::new_with_rng(Config::default(), rng);
    let mut value = || {
        let tree = strategy.new_tree(&mut runner);
        tree.expect("no strategy here refuses").current()
    };
    (0..CORPUS).map(|_| value()).collect()
}

/// One of them.
fn draw<T: Clone>(corpus: &[T], random: &mut ChaCha8Rng) -> T {
    corpus[random.gen_range(0..corpus.len())].clone()
}

/// Bytes that decide how MessagePack goes on, and those beside them.
const MARKERS: [u8; 16] = [
    0x00, 0x7f, 0x80, 0x81, 0x8f, 0x90, 0x9f, 0xa0, 0xbf, 0xc0, 0xc6, 0xcf, 0xdb, 0xdd, 0xdf, 0xff,
];

/// Damages bytes a little, a few times, or not at all.
fn damage(bytes: &mut Vec<u8>, random: &mut ChaCha8Rng) {
    if random.gen_bool(0.3) {
        return;
    }
    for _ in 0..random.gen_range(1..4) {
        let at = random.gen_range(0..=bytes.len());
        let len = random.gen_range(0..=(bytes.len() - at).min(40));
        match random.gen_range(0..8) {
            0 => bytes.truncate(at),
            1 => drop(bytes.drain(at..at + len)),
            2 => {
                let copy = bytes[at..at + len].to_vec();
                bytes.splice(at..at, copy);
            }
            3 => {
                let noise = (0..len).map(|_| random.r#gen()).collect::<Vec<u8>>();
                bytes.splice(at..at, noise);
            }
            4 => {
                let extreme = [u64::MAX, 1 << 63, 1 << 32, 0][random.gen_range(0..4)];
                let end = (at + 8).min(bytes.len());
                bytes.splice(at..end, extreme.to_be_bytes());
            }
            5 if at < bytes.len() => bytes[at] = MARKERS[random.gen_range(0..16)],
            _ if at < bytes.len() => bytes[at] ^= 1 << random.gen_range(0..8),
            _ => bytes.push(random.r#gen()),
        }
    }
}
