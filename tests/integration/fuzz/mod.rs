//! Random and spoilt input for all that reads what anybody may send, or change where it is kept. In the suite each target has
//! a few hundred cases; `make fuzz` gives each as long as it is told.

mod cursor;
mod documents;
mod envelope;
mod socket;

use std::fmt::Debug;
use std::time::{Duration, Instant};

use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::Index;
use proptest::test_runner::{Config, RngAlgorithm, TestRng, TestRunner};

/// The cases between two looks at the time.
const CASES: u32 = 200;

/// Tries `holds`, which panics where something does not hold, with `inputs`: one round of them, and more until
/// `SALESPULSE_TEST_FUZZ_SECS` are over. The same `SALESPULSE_TEST_FUZZ_SEED` gives the same ones in the same order.
fn fuzz<S: Strategy>(inputs: S, holds: impl Fn(S::Value)) {
    let setting = |name| std::env::var(name).ok().map(|text| text.parse::<u64>().expect(name));
    let seed = setting("SALESPULSE_TEST_FUZZ_SEED").unwrap_or(1);
    let end = Instant::now() + Duration::from_secs(setting("SALESPULSE_TEST_FUZZ_SECS").unwrap_or(0));
    let config = Config { cases: CASES, failure_persistence: None, ..Config::default() };
    let start: Vec<u8> = seed.to_be_bytes().repeat(4);
    let mut rounds = TestRunner::new_with_rng(config.clone(), TestRng::from_seed(RngAlgorithm::ChaCha, &start));
    let mut cases = 0;
    while cases == 0 || Instant::now() < end {
        let mut round = TestRunner::new_with_rng(config.clone(), rounds.new_rng());
        let tried = round.run(&inputs, |input| {
            holds(input);
            Ok(())
        });
        tried.unwrap_or_else(|failure| panic!("seed {seed}, after {cases} cases: {failure}"));
        cases += u64::from(CASES);
    }
    println!("seed {seed}: {cases} cases");
}

/// A small change of some bytes.
#[derive(Clone, Debug)]
enum Edit {
    Flip(Index, u8),
    Remove(Index, usize),
    Repeat(Index, usize, usize),
    Insert(Index, Vec<u8>),
    CutAt(Index),
}

/// One change or a few; what is inserted is of `inserted`.
fn edits(inserted: impl Strategy<Value = Vec<u8>> + 'static) -> impl Strategy<Value = Vec<Edit>> {
    let at = any::<Index>;
    let edit = prop_oneof![
        3 => (at(), 0..8u8).prop_map(|(at, bit)| Edit::Flip(at, bit)),
        2 => (at(), 1..20usize).prop_map(|(at, length)| Edit::Remove(at, length)),
        2 => (at(), 1..40usize, 1..4usize).prop_map(|(at, length, times)| Edit::Repeat(at, length, times)),
        1 => (at(), 1..4usize, 1..300usize).prop_map(|(at, length, times)| Edit::Repeat(at, length, times)),
        3 => (at(), inserted).prop_map(|(at, bytes)| Edit::Insert(at, bytes)),
        1 => at().prop_map(Edit::CutAt),
    ];
    vec(edit, 1..4)
}

fn edited(bytes: &[u8], edits: &[Edit]) -> Vec<u8> {
    let mut bytes = bytes.to_vec();
    for edit in edits {
        let (Edit::Flip(at, _) | Edit::Remove(at, _) | Edit::Repeat(at, ..) | Edit::Insert(at, _) | Edit::CutAt(at)) =
            edit;
        let at = at.index(bytes.len() + 1);
        let to = |length: usize| bytes.len().min(at + length);
        match edit {
            Edit::Flip(_, bit) => bytes.get_mut(at).into_iter().for_each(|byte| *byte ^= 1 << bit),
            Edit::Remove(_, length) => drop(bytes.drain(at..to(*length))),
            Edit::Repeat(_, length, times) => {
                let more = bytes[at..to(*length)].repeat(*times);
                bytes.splice(at..at, more);
            }
            Edit::Insert(_, more) => drop(bytes.splice(at..at, more.iter().copied())),
            Edit::CutAt(_) => bytes.truncate(at),
        }
    }
    bytes
}

/// What differs from `bytes` in one bit.
fn flipped(bytes: &[u8]) -> impl Iterator<Item = Vec<u8>> {
    (0..bytes.len() * 8).map(|bit| {
        let mut bytes = bytes.to_vec();
        bytes[bit / 8] ^= 1 << (bit % 8);
        bytes
    })
}

fn any_bytes() -> impl Strategy<Value = Vec<u8>> {
    vec(any::<u8>(), 0..60)
}
