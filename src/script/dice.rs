//! `math.random`: the 48-bit generator of drand48(3), which gives the same numbers everywhere.

use std::cell::Cell;

/// The generator's state. It goes on from script to script; only `math.randomseed` sets it back.
#[derive(Debug)]
pub struct Dice(Cell<u64>);

const FACTOR: u64 = 0x5_DEEC_E66D;
const ADDEND: u64 = 0xB;
const MASK: u64 = (1 << 48) - 1;
/// What a seed leaves in the lowest bits.
const SEEDED: u64 = 0x330E;

impl Default for Dice {
    fn default() -> Self {
        Dice(Cell::new(0x1234_ABCD_330E))
    }
}

impl Dice {
    /// Begins anew.
    pub fn seed(&self, seed: i32) {
        self.0.set(u64::from(seed as u32) << 16 | SEEDED);
    }

    /// The next number, from 0 to below 1.
    pub fn next(&self) -> f64 {
        const MAX: u64 = i32::MAX as u64;
        let state = self.0.get().wrapping_mul(FACTOR).wrapping_add(ADDEND) & MASK;
        self.0.set(state);
        ((state >> 17) % MAX) as f64 / MAX as f64
    }
}
