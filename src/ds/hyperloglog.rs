//! HyperLogLog: how many different elements were seen, within 1 % and 12 KB, however many there were.
//!
//! # The idea
//!
//! Hash an element to 64 random bits. Half of all hashes end in a 1, a quarter in 10, an eighth in 100: who has seen a
//! hash with a tail of `n` bits has probably seen about `2^n` different elements, and the same element again changes
//! nothing. One such observation is wild, so 16384 are kept apart: 14 bits of the hash choose a *register*, which
//! remembers the longest tail of zeros and a one found in the other 50 (hence 1 to 51; 0: never chosen). All that is
//! left is to average well. The count is never stored, only estimated, with a standard error of `1.04 / sqrt(16384)`.
//! And two sketches merge without loss: the union's register is the greater of both.
//!
//! # The estimate
//!
//! Of the registers only the histogram matters: how many stand at 0, 1, ... 51. The classic estimate, a harmonic mean,
//! is biased for small and large counts and had to be corrected by tables. Otmar Ertl ("New cardinality estimation
//! algorithms for HyperLogLog sketches", arXiv:1702.01284) derives one that holds over the whole range: with `C(k)`
//! registers at `k`, `m` of them in all and `q` = 50,
//!
//! ```text
//!                          m^2 / (2 ln 2)
//! n  =  -------------------------------------------------------
//!       m sigma(C(0)/m) + sum C(k) 2^-k + m tau(1 - C(q+1)/m) 2^-q
//! ```
//!
//! where `sigma` makes up for registers that were never chosen and `tau` for those that cannot count further.
//!
//! # The bytes
//!
//! The sketch is a plain string, so that GET and SET carry it from server to server. Both forms have a head of 16 bytes:
//!
//! ```text
//! | "HYLL" | form | 0 0 0 | cached estimate, little endian, 8 bytes | registers ...
//!           0 dense, 1 sparse        its highest bit set: not valid any more
//! ```
//!
//! *Dense*: 6 bits a register, the first in the low bits of the first byte: 12288 bytes.
//!
//! ```text
//! byte        0        1        2        3
//!          11000000 22221111 33333322 55444444
//! ```
//!
//! *Sparse*: while most registers are 0, runs of equal ones:
//!
//! ```text
//! ZERO   00nnnnnn             n + 1 registers at 0         (1 to 64)
//! XZERO  01nnnnnn nnnnnnnn    n + 1 registers at 0         (1 to 16384)
//! VAL    1vvvvvnn             n + 1 registers at v + 1     (1 to 4 registers, 1 to 32)
//! ```
//!
//! An empty sketch is one XZERO: 18 bytes. Raising a register splits the run it lies in (XZERO into XZERO VAL XZERO at
//! worst), then neighbouring VALs of the same value grow together again. When the string would pass
//! `hll-sparse-max-bytes`, or a register passes 32, the sketch becomes dense for good.
//!
//! The very bytes are the interface here: after the same commands the string must be the one that Redis has, so the
//! order in which runs split and merge, and how far the merge looks, are part of the format.

/// Bits of the hash that choose a register.
const P: u32 = 14;
/// Bits of the hash whose tail is measured.
const Q: u32 = 64 - P;
/// How many registers there are.
pub const REGISTERS: usize = 1 << P;
/// Bytes of the head.
pub const HEADER_BYTES: usize = 16;
/// Bytes of a dense sketch.
pub const DENSE_BYTES: usize = HEADER_BYTES + REGISTERS * 6 / 8;

const MAGIC: &[u8; 4] = b"HYLL";
const FORM_AT: usize = 4;
/// Where the cached estimate stands.
pub const CACHE_AT: usize = 8;
/// Where its highest bit stands, which tells that it is not valid.
const STALE_AT: usize = 15;
const STALE: u8 = 0x80;

const VAL_MAX: u8 = 32;
const VAL_RUN_MAX: usize = 4;
const ZERO_RUN_MAX: usize = 64;

/// The sketch's registers are not as they must be.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Corrupt;

/// How the registers are kept.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Form {
    Dense,
    Sparse,
}

/// The form that the head of `text` tells; `None` if this is no sketch.
pub fn form(text: &[u8]) -> Option<Form> {
    if text.len() < HEADER_BYTES || !text.starts_with(MAGIC) {
        return None;
    }
    match text[FORM_AT] {
        0 if text.len() == DENSE_BYTES => Some(Form::Dense),
        1 => Some(Form::Sparse),
        _ => None,
    }
}

/// A sketch that has seen nothing.
pub fn empty() -> Vec<u8> {
    let mut text = vec![0; HEADER_BYTES];
    text[..MAGIC.len()].copy_from_slice(MAGIC);
    text[FORM_AT] = 1;
    let mut runs = Runs::default();
    runs.push_zeros(REGISTERS);
    text.extend_from_slice(runs.as_slice());
    text
}

/// The estimate kept in the head of a sketch, if it is still valid.
pub fn cached(text: &[u8]) -> Option<u64> {
    let bytes = text.get(CACHE_AT..HEADER_BYTES)?.try_into().ok()?;
    let cached = u64::from_le_bytes(bytes);
    (text[STALE_AT] & STALE == 0).then_some(cached)
}

/// The estimate kept in the head of a sketch is not valid any more.
pub fn forget_cached(text: &mut [u8]) {
    text[STALE_AT] |= STALE;
}

// --- Elements --------------------------------------------------------------------------------------------------

/// The register that an element chooses, and what it raises it to.
pub fn place(element: &[u8]) -> (usize, u8) {
    let hash = murmur64a(element, 0xadc8_3b19);
    let register = hash as usize & (REGISTERS - 1);
    // The bit put in ahead ends the tail where the hash has none.
    let tail = hash >> P | 1 << Q;
    (register, tail.trailing_zeros() as u8 + 1)
}

/// MurmurHash64A, reading little endian on every machine.
fn murmur64a(data: &[u8], seed: u64) -> u64 {
    const M: u64 = 0xc6a4_a793_5bd1_e995;
    const R: u32 = 47;
    let mut hash = seed ^ (data.len() as u64).wrapping_mul(M);
    let (words, rest) = data.as_chunks::<8>();
    for word in words {
        let mut k = u64::from_le_bytes(*word).wrapping_mul(M);
        k ^= k >> R;
        hash = (hash ^ k.wrapping_mul(M)).wrapping_mul(M);
    }
    if !rest.is_empty() {
        let mut last = [0; 8];
        last[..rest.len()].copy_from_slice(rest);
        hash = (hash ^ u64::from_le_bytes(last)).wrapping_mul(M);
    }
    hash ^= hash >> R;
    hash = hash.wrapping_mul(M);
    hash ^ hash >> R
}

// --- Dense -----------------------------------------------------------------------------------------------------

/// Where a register lies in a dense sketch: its first byte, and how many bits into it. The last one ends with the
/// last byte, so the byte behind it may be missing.
fn dense_place(register: usize) -> (usize, usize) {
    (HEADER_BYTES + register * 6 / 8, register * 6 % 8)
}

/// A register of a dense sketch.
pub fn dense_get(text: &[u8], register: usize) -> u8 {
    let (at, shift) = dense_place(register);
    let next = text.get(at + 1).copied().unwrap_or(0);
    (u16::from_le_bytes([text[at], next]) >> shift) as u8 & 63
}

/// The bytes to write, and where, so that a register of a dense sketch stands at `value`.
pub fn dense_patch(text: &[u8], register: usize, value: u8) -> (usize, [u8; 2], usize) {
    let (at, shift) = dense_place(register);
    let next = text.get(at + 1).copied().unwrap_or(0);
    let pair = u16::from_le_bytes([text[at], next]) & !(63 << shift) | u16::from(value) << shift;
    (at, pair.to_le_bytes(), if shift > 2 { 2 } else { 1 })
}

fn dense_raise(text: &mut [u8], register: usize, value: u8) -> bool {
    if dense_get(text, register) >= value {
        return false;
    }
    let (at, bytes, n) = dense_patch(text, register, value);
    text[at..at + n].copy_from_slice(&bytes[..n]);
    true
}

/// Eight registers of 6 bits, as six bytes hold them, spread to a byte each.
fn spread(packed: &[u8; 6]) -> [u8; 8] {
    let [a, b, c, d, e, f] = *packed;
    let x = u64::from_le_bytes([a, b, c, d, e, f, 0, 0]);
    let x = x & 0x0000_0000_00ff_ffff | (x & 0x0000_ffff_ff00_0000) << 8;
    let x = x & 0x0000_0fff_0000_0fff | (x & 0x00ff_f000_00ff_f000) << 4;
    let x = x & 0x003f_003f_003f_003f | (x & 0x0fc0_0fc0_0fc0_0fc0) << 2;
    x.to_le_bytes()
}

/// The other way round.
fn pack(registers: &[u8; 8]) -> [u8; 6] {
    let x = u64::from_le_bytes(*registers);
    let x = x & 0x003f_003f_003f_003f | (x & 0x3f00_3f00_3f00_3f00) >> 2;
    let x = x & 0x0000_0fff_0000_0fff | (x & 0x0fff_0000_0fff_0000) >> 4;
    let x = x & 0x0000_0000_00ff_ffff | (x & 0x00ff_ffff_0000_0000) >> 8;
    let [a, b, c, d, e, f, _, _] = x.to_le_bytes();
    [a, b, c, d, e, f]
}

// --- Sparse ----------------------------------------------------------------------------------------------------

/// A run of equal registers.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
struct Run {
    /// 0 for ZERO and XZERO.
    value: u8,
    registers: usize,
    /// 2 for XZERO, 1 for the others.
    bytes: usize,
}

impl Run {
    /// The run that begins at `at`. The second byte of an XZERO cut short reads as 0.
    fn read(text: &[u8], at: usize) -> Run {
        let byte = text[at];
        let (value, registers, bytes) = match byte >> 6 {
            0 => (0, usize::from(byte & 63) + 1, 1),
            1 => {
                let low = text.get(at + 1).copied().unwrap_or(0);
                let n = usize::from(byte & 63) << 8 | usize::from(low);
                (0, n + 1, 2)
            }
            _ => (((byte >> 2) & 31) + 1, usize::from(byte & 3) + 1, 1),
        };
        Run {
            value,
            registers,
            bytes,
        }
    }

    fn is_val(self) -> bool {
        self.value > 0
    }
}

fn val(value: u8, registers: usize) -> u8 {
    0x80 | (value - 1) << 2 | (registers - 1) as u8
}

/// All runs of a sparse sketch.
fn runs(text: &[u8]) -> impl Iterator<Item = Run> {
    let mut at = HEADER_BYTES;
    std::iter::from_fn(move || {
        (at < text.len()).then(|| {
            let run = Run::read(text, at);
            at += run.bytes;
            run
        })
    })
}

/// The runs that take the place of one: at most XZERO VAL XZERO.
#[derive(Default)]
struct Runs {
    bytes: [u8; 5],
    len: usize,
}

impl Runs {
    fn push(&mut self, byte: u8) {
        self.bytes[self.len] = byte;
        self.len += 1;
    }

    fn push_val(&mut self, value: u8, registers: usize) {
        if registers > 0 {
            self.push(val(value, registers));
        }
    }

    fn push_zeros(&mut self, registers: usize) {
        if registers > ZERO_RUN_MAX {
            let n = registers - 1;
            self.push(0x40 | (n >> 8) as u8);
            self.push(n as u8);
        } else if registers > 0 {
            self.push((registers - 1) as u8);
        }
    }

    fn push_same(&mut self, run: Run, registers: usize) {
        match run.value {
            0 => self.push_zeros(registers),
            value => self.push_val(value, registers),
        }
    }

    fn as_slice(&self) -> &[u8] {
        &self.bytes[..self.len]
    }
}

/// Where to begin to look for a register: at a run, and the first register in it.
#[derive(Clone, Copy, PartialEq, Eq)]
struct Cursor {
    at: usize,
    first: usize,
}

impl Cursor {
    const START: Cursor = Cursor {
        at: HEADER_BYTES,
        first: 0,
    };
}

/// Makes a sparse sketch dense; a dense one stays. The cached estimate stays.
pub fn make_dense(text: &mut Vec<u8>) -> Result<(), Corrupt> {
    if text[FORM_AT] == 0 {
        return Ok(());
    }
    let mut registers = Registers::new();
    registers.merge(text)?;
    text.truncate(HEADER_BYTES);
    text[FORM_AT] = 0;
    registers.pack_onto(text);
    Ok(())
}

/// Raises a register to `value` if it stands lower; true if it did. `sparse_max` is the most bytes that a sparse sketch
/// may have.
pub fn raise(
    text: &mut Vec<u8>,
    register: usize,
    value: u8,
    sparse_max: usize,
) -> Result<bool, Corrupt> {
    let mut start = Cursor::START;
    raise_from(text, register, value, sparse_max, &mut start)
}

/// As [`raise`], looking from `cursor` on. Leaves it where a call for a higher register may begin.
fn raise_from(
    text: &mut Vec<u8>,
    register: usize,
    value: u8,
    sparse_max: usize,
    cursor: &mut Cursor,
) -> Result<bool, Corrupt> {
    if text[FORM_AT] == 0 {
        return Ok(dense_raise(text, register, value));
    }
    if value > VAL_MAX {
        make_dense(text)?;
        return Ok(dense_raise(text, register, value));
    }
    let mut here = *cursor;
    let mut before = None;
    let mut before_that = Cursor::START;
    let run = loop {
        if here.at >= text.len() {
            return Err(Corrupt);
        }
        let run = Run::read(text, here.at);
        if register < here.first + run.registers {
            break run;
        }
        before_that = before.unwrap_or(Cursor::START);
        before = Some(here);
        here = Cursor {
            at: here.at + run.bytes,
            first: here.first + run.registers,
        };
    };
    // The run before this one may grow below; the one before that will stay.
    *cursor = before_that;
    if run.value >= value {
        return Ok(false);
    }
    if run.registers == 1 && run.bytes == 1 {
        text[here.at] = val(value, 1);
    } else {
        let mut split = Runs::default();
        split.push_same(run, register - here.first);
        split.push_val(value, 1);
        split.push_same(run, here.first + run.registers - 1 - register);
        let new_len = text.len() + split.len - run.bytes;
        if split.len > run.bytes && new_len > sparse_max {
            make_dense(text)?;
            return Ok(dense_raise(text, register, value));
        }
        let end = text.len().min(here.at + run.bytes);
        text.splice(here.at..end, split.as_slice().iter().copied());
        text.truncate(new_len);
    }
    join_vals(text, before.map_or(HEADER_BYTES, |b| b.at));
    forget_cached(text);
    Ok(true)
}

/// Joins neighbouring VALs of the same value, five steps from `at` on.
fn join_vals(text: &mut Vec<u8>, mut at: usize) {
    for _ in 0..5 {
        if at >= text.len() {
            break;
        }
        let run = Run::read(text, at);
        if run.is_val() && at + 1 < text.len() {
            let next = Run::read(text, at + 1);
            let registers = run.registers + next.registers;
            if next.value == run.value && registers <= VAL_RUN_MAX {
                text[at + 1] = val(run.value, registers);
                text.remove(at);
                continue;
            }
        }
        at += run.bytes;
    }
}

/// The runs of a sparse sketch in readable form, as PFDEBUG DECODE shows them.
pub fn decode(text: &[u8]) -> String {
    let words: Vec<String> = runs(text)
        .map(|run| match run {
            Run {
                value: 0,
                registers,
                bytes: 1,
            } => format!("z:{registers}"),
            Run {
                value: 0,
                registers,
                ..
            } => format!("Z:{registers}"),
            Run {
                value, registers, ..
            } => format!("v:{value},{registers}"),
        })
        .collect();
    words.join(" ")
}

// --- All registers ---------------------------------------------------------------------------------------------

/// All registers, a byte each: where sketches are merged.
#[derive(Clone)]
pub struct Registers([u8; REGISTERS]);

impl Registers {
    /// All at 0.
    #[allow(clippy::new_without_default)]
    pub fn new() -> Registers {
        Registers([0; REGISTERS])
    }

    /// All of them in order.
    pub fn as_slice(&self) -> &[u8] {
        &self.0
    }

    /// Raises each to where a sketch has it.
    pub fn merge(&mut self, text: &[u8]) -> Result<(), Corrupt> {
        if text[FORM_AT] == 0 {
            let (theirs, _) = text[HEADER_BYTES..].as_chunks::<6>();
            let (ours, _) = self.0.as_chunks_mut::<8>();
            for (ours, theirs) in ours.iter_mut().zip(theirs) {
                let theirs = spread(theirs);
                ours.iter_mut()
                    .zip(theirs)
                    .for_each(|(a, b)| *a = b.max(*a));
            }
            return Ok(());
        }
        let mut first = 0;
        for run in runs(text) {
            if run.is_val() {
                // What stands behind the last register is passed over if it is a value, and wrong otherwise.
                let Some(place) = self.0.get_mut(first..first + run.registers) else {
                    break;
                };
                place.iter_mut().for_each(|r| *r = run.value.max(*r));
            }
            first += run.registers;
        }
        if first == REGISTERS {
            Ok(())
        } else {
            Err(Corrupt)
        }
    }

    /// Raises the registers of a sketch to these and forgets its estimate. It has been merged into these before.
    pub fn store(&self, text: &mut Vec<u8>, sparse_max: usize) -> Result<(), Corrupt> {
        let mut cursor = Cursor::START;
        for (register, &value) in self.0.iter().enumerate() {
            if text[FORM_AT] == 0 {
                text.truncate(HEADER_BYTES);
                self.pack_onto(text);
                break;
            }
            if value > 0 {
                raise_from(text, register, value, sparse_max, &mut cursor)?;
            }
        }
        forget_cached(text);
        Ok(())
    }

    fn pack_onto(&self, text: &mut Vec<u8>) {
        text.reserve_exact(DENSE_BYTES - HEADER_BYTES);
        let (eights, _) = self.0.as_chunks::<8>();
        eights
            .iter()
            .for_each(|eight| text.extend_from_slice(&pack(eight)));
    }

    /// The estimate.
    pub fn estimate(&self) -> i64 {
        // Four histograms, so that equal neighbours need not wait for each other.
        let mut parts = [[0u32; 64]; 4];
        let (fours, _) = self.0.as_chunks::<4>();
        for four in fours {
            for (part, value) in parts.iter_mut().zip(four) {
                part[usize::from(value & 63)] += 1;
            }
        }
        estimate(&std::array::from_fn(|k| {
            parts.iter().map(|part| part[k]).sum()
        }))
    }
}

/// The estimate of a sketch.
pub fn count(text: &[u8]) -> Result<i64, Corrupt> {
    if text[FORM_AT] == 0 {
        let mut registers = Registers::new();
        registers.merge(text)?;
        return Ok(registers.estimate());
    }
    let (mut histogram, mut total) = ([0u32; 64], 0);
    for run in runs(text) {
        histogram[usize::from(run.value)] += run.registers as u32;
        total += run.registers;
    }
    if total == REGISTERS {
        Ok(estimate(&histogram))
    } else {
        Err(Corrupt)
    }
}

/// Ertl's estimate from the number of registers at each value; see the head of the file.
fn estimate(histogram: &[u32; 64]) -> i64 {
    /// 1 / (2 ln 2)
    const ALPHA_INF: f64 = 0.721_347_520_444_481_7;
    let m = REGISTERS as f64;
    let at = |k: u32| f64::from(histogram[k as usize]);
    let mut z = m * tau((m - at(Q + 1)) / m);
    for k in (1..=Q).rev() {
        z += at(k);
        z *= 0.5;
    }
    z += m * sigma(at(0) / m);
    let n = (ALPHA_INF * m * m / z).round();
    // Registers beyond what a hash can give add up to nothing; Redis's integer is then this one.
    if n.is_finite() { n as i64 } else { i64::MIN }
}

/// `x + sum of x^(2^k) 2^(k-1)` for k = 1, 2, ...
fn sigma(mut x: f64) -> f64 {
    if x == 1.0 {
        return f64::INFINITY;
    }
    let (mut y, mut z) = (1.0, x);
    loop {
        x *= x;
        let before = z;
        z += x * y;
        y += y;
        if before == z {
            return z;
        }
    }
}

/// `(1 - x - sum of (1 - x^(2^-k))^2 2^-k) / 3` for k = 1, 2, ...
fn tau(mut x: f64) -> f64 {
    if x == 0.0 || x == 1.0 {
        return 0.0;
    }
    let (mut y, mut z) = (1.0, 1.0 - x);
    loop {
        x = x.sqrt();
        let before = z;
        y *= 0.5;
        z -= (1.0 - x) * (1.0 - x) * y;
        if before == z {
            return z / 3.0;
        }
    }
}

// --- Self-test -------------------------------------------------------------------------------------------------

/// What PFSELFTEST does: writes and reads all registers of a dense sketch, then counts `elements` in a dense and a sparse
/// sketch and compares them with each other and with the truth. The error tells what failed.
pub fn self_test(
    elements: u64,
    sparse_max: usize,
    mut random: impl FnMut() -> u64,
) -> Result<(), String> {
    let mut dense = empty();
    make_dense(&mut dense).map_err(|_| "an empty HLL is corrupt")?;
    let zeros = dense.clone();
    for _ in 0..1000 {
        let mut expected = Registers::new();
        for (register, r) in expected.0.iter_mut().enumerate() {
            *r = random() as u8 & 63;
            let (at, bytes, n) = dense_patch(&dense, register, *r);
            dense[at..at + n].copy_from_slice(&bytes[..n]);
        }
        for (register, value) in expected.0.iter().enumerate() {
            let found = dense_get(&dense, register);
            if found != *value {
                return Err(format!(
                    "Register {register} should be {value} but is {found}"
                ));
            }
        }
    }
    dense = zeros;
    let mut sparse = empty();
    let seed = random();
    let mut checkpoint = 1;
    for j in 1..=elements {
        let (register, value) = place(&(j ^ seed).to_le_bytes());
        dense_raise(&mut dense, register, value);
        raise(&mut sparse, register, value, sparse_max).map_err(|_| "sparse HLL is corrupt")?;
        if j < checkpoint {
            continue;
        }
        if (j as usize) < sparse_max / 2 && form(&sparse) != Some(Form::Sparse) {
            return Err("sparse encoding not used".into());
        }
        let estimate = count(&dense);
        if estimate != count(&sparse) {
            return Err("dense/sparse disagree".into());
        }
        let error = estimate.unwrap_or(0).abs_diff(j as i64);
        let expected = 1.04 / (REGISTERS as f64).sqrt() * 6.0 * j as f64;
        if error > if j == 10 { 1 } else { expected.ceil() as u64 } {
            return Err(format!("Too big error. card:{j} abserr:{error}"));
        }
        checkpoint *= 10;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::collection::vec;
    use proptest::prelude::*;

    /// Enough for every element here to stay sparse.
    const ROOMY: usize = 1 << 20;

    fn registers_of(text: &[u8]) -> Registers {
        let mut registers = Registers::new();
        registers.merge(text).unwrap();
        registers
    }

    proptest! {
        #[test]
        fn both_forms_hold_the_registers_of_a_model(
            raises in vec((prop_oneof![0..40usize, 0..REGISTERS], 1..=35u8), 0..150),
            sparse_max in prop_oneof![Just(ROOMY), 18..200usize],
        ) {
            let mut model = Registers::new();
            let mut sparse = empty();
            let mut dense = empty();
            make_dense(&mut dense).unwrap();
            for (register, value) in raises {
                let higher = value > model.0[register];
                model.0[register] = model.0[register].max(value);
                prop_assert_eq!(raise(&mut dense, register, value, 0), Ok(higher));
                prop_assert_eq!(raise(&mut sparse, register, value, sparse_max), Ok(higher));
                prop_assert_eq!(dense_get(&dense, register), model.0[register]);
            }
            for text in [&sparse, &dense] {
                prop_assert!(form(text).is_some());
                prop_assert!(registers_of(text).0 == model.0);
                prop_assert_eq!(count(text), Ok(model.estimate()));
            }
        }

        /// Storing many registers at once takes a short cut; the bytes must be those of one raise after the other.
        #[test]
        fn storing_all_registers_gives_the_bytes_of_raising_one_by_one(
            before in vec((0..300usize, 1..=8u8), 0..60),
            after in vec((0..300usize, 1..=8u8), 0..120),
            sparse_max in prop_oneof![Just(ROOMY), 60..160usize],
        ) {
            let mut text = empty();
            for (register, value) in before {
                raise(&mut text, register, value, ROOMY).unwrap();
            }
            let mut max = registers_of(&text);
            for (register, value) in after {
                max.0[register] = max.0[register].max(value);
            }
            let mut one_by_one = text.clone();
            for (register, value) in max.0.iter().enumerate().filter(|(_, v)| **v > 0) {
                raise(&mut one_by_one, register, *value, sparse_max).unwrap();
            }
            forget_cached(&mut one_by_one);
            max.store(&mut text, sparse_max).unwrap();
            prop_assert_eq!(text, one_by_one);
        }

        #[test]
        fn whatever_stands_behind_a_sparse_head_is_refused_or_works(
            body in vec(any::<u8>(), 0..60), register in 0..REGISTERS, value in 1..52u8, max in 0..100usize,
        ) {
            let mut text = empty();
            text.truncate(HEADER_BYTES);
            text.extend(body);
            let _ = count(&text);
            let _ = Registers::new().merge(&text);
            let _ = decode(&text);
            let _ = raise(&mut text, register, value, max);
            prop_assert!(form(&text).is_some());
        }
    }

    #[test]
    fn registers_spread_and_pack_as_they_are_read_one_by_one() {
        let packed = [
            0b1100_0000,
            0b0010_1111,
            0b1111_1101,
            0b0101_0111,
            0x9a,
            0xff,
        ];
        let mut text = empty();
        make_dense(&mut text).unwrap();
        text[HEADER_BYTES..HEADER_BYTES + 6].copy_from_slice(&packed);
        let one_by_one: [u8; 8] = std::array::from_fn(|r| dense_get(&text, r));
        assert_eq!(spread(&packed), one_by_one);
        assert_eq!(pack(&one_by_one), packed);
    }

    #[test]
    fn the_forms_are_those_of_the_picture() {
        let mut text = empty();
        assert_eq!(text[HEADER_BYTES..], [0x7f, 0xff]);
        raise(&mut text, 100, 3, ROOMY).unwrap();
        raise(&mut text, 101, 3, ROOMY).unwrap();
        assert_eq!(decode(&text), "Z:100 v:3,2 Z:16282");
        assert_eq!(cached(&text), None);
        let too_long = text.len() + 2;
        raise(&mut text, 5, 1, too_long).unwrap();
        assert_eq!(decode(&text), "z:5 v:1,1 Z:94 v:3,2 Z:16282");
        raise(&mut text, 5000, 1, too_long).unwrap();
        assert_eq!(form(&text), Some(Form::Dense));
    }

    #[test]
    fn the_self_test_passes() {
        let mut rng = crate::base::rng::Rng::new(7);
        self_test(100_000, 3000, || rng.next_u64()).unwrap();
    }
}
