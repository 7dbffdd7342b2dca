//! Bits in bytes: counting them, finding one, combining rows of them, and integers that lie across them.
//!
//! Bit 0 is the highest bit of the first byte, as SETBIT and its kin number them, so that a row of bits reads from left
//! to right. An unsigned 5-bit integer 23 (`10111`) at offset 7 of an empty row:
//!
//! ```text
//! byte       0        1
//!        00000001 01110000
//! bit    01234567 89...
//!               ^^^^^ the field
//! ```
//!
//! An integer that begins and ends with a byte is therefore big endian.

/// How many bits are set.
pub fn count_ones(bytes: &[u8]) -> u64 {
    #[cfg(target_arch = "x86_64")]
    {
        if is_x86_feature_detected!("avx2") && is_x86_feature_detected!("popcnt") {
            // SAFETY: the processor has what the function is compiled for.
            return unsafe { count_ones_avx2(bytes) };
        }
    }
    count_ones_by_words(bytes)
}

/// The same code for a processor with wide registers: the compiler makes a table lookup of each half byte of it.
#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx2,popcnt")]
fn count_ones_avx2(bytes: &[u8]) -> u64 {
    count_ones_by_words(bytes)
}

#[inline(always)]
fn count_ones_by_words(bytes: &[u8]) -> u64 {
    let (words, rest) = bytes.as_chunks::<8>();
    let in_words: u64 = words
        .iter()
        .map(|word| u64::from(u64::from_ne_bytes(*word).count_ones()))
        .sum();
    let in_rest: u64 = rest.iter().map(|b| u64::from(b.count_ones())).sum();
    in_words + in_rest
}

/// The first bit that is set (or clear), if there is one.
pub fn find(bytes: &[u8], set: bool) -> Option<usize> {
    let skipped: u8 = if set { 0 } else { 0xff };
    // Lines of 64 bytes of which none is of interest are passed over without a look at each.
    let (lines, _) = bytes.as_chunks::<64>();
    let dull = |line: &&[u8; 64]| line.iter().fold(0, |acc, b| acc | (b ^ skipped)) == 0;
    let start = 64 * lines.iter().take_while(dull).count();
    let within = bytes[start..].iter().position(|b| *b != skipped)?;
    let at = start + within;
    Some(at * 8 + (bytes[at] ^ skipped).leading_zeros() as usize)
}

/// What BITOP does with the bits of two rows.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Combine {
    And,
    Or,
    Xor,
}

/// Combines the bytes of `other` into those of `out`, as far as both go.
pub fn combine(out: &mut [u8], other: &[u8], how: Combine) {
    let pairs = out.iter_mut().zip(other);
    match how {
        Combine::And => pairs.for_each(|(a, b)| *a &= b),
        Combine::Or => pairs.for_each(|(a, b)| *a |= b),
        Combine::Xor => pairs.for_each(|(a, b)| *a ^= b),
    }
}

/// Turns every bit.
pub fn invert(bytes: &mut [u8]) {
    bytes.iter_mut().for_each(|b| *b = !*b);
}

/// The type of an integer within a row: signed or not, 1 to 64 bits.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Field {
    pub signed: bool,
    pub bits: u32,
}

/// What a change does that leads out of a field's range.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum Overflow {
    /// It keeps the low bits.
    #[default]
    Wrap,
    /// It stops at the end of the range.
    Saturate,
    /// It does not take place.
    Fail,
}

/// The bytes that a field of any width may touch, its first bit being in the first of them.
pub const WINDOW: usize = 9;

impl Field {
    /// Bytes that the field touches when it begins `shift` (0 to 7) bits into the first.
    pub fn bytes(self, shift: u32) -> usize {
        (shift + self.bits).div_ceil(8) as usize
    }

    /// The field that begins `shift` bits into the window.
    pub fn read(self, window: &[u8; WINDOW], shift: u32) -> i64 {
        let raw = (row(window) >> self.room_behind(shift)) as u64 & self.mask();
        self.extend(raw)
    }

    /// Writes the low bits of `value` into the field that begins `shift` bits into the window.
    pub fn write(self, window: &mut [u8; WINDOW], shift: u32, value: i64) {
        let place = self.room_behind(shift);
        let mask = u128::from(self.mask()) << place;
        let row = row(window) & !mask | u128::from(value as u64 & self.mask()) << place;
        window.copy_from_slice(&row.to_be_bytes()[16 - WINDOW..]);
    }

    /// `value` (of this type) with `increment` added, kept in range as `overflow` says; `None` if it must not take place.
    pub fn add(self, value: i64, increment: i64, overflow: Overflow) -> Option<i64> {
        self.fit(i128::from(value) + i128::from(increment), overflow)
    }

    /// Any number, brought into range as `overflow` says. What is negative counts as huge for an unsigned field.
    pub fn set(self, value: i64, overflow: Overflow) -> Option<i64> {
        if !self.signed {
            return self.fit((value as u64).into(), overflow);
        }
        let (_, max) = self.range();
        // Redis takes numbers so low that their distance to the range's end is no i64 for too high.
        if overflow == Overflow::Saturate
            && max - i128::from(value) > i64::MAX.into()
            && self.bits < 64
        {
            return Some(max as i64);
        }
        self.fit(value.into(), overflow)
    }

    /// The least and the greatest value.
    fn range(self) -> (i128, i128) {
        match self.signed {
            true => (-(1i128 << (self.bits - 1)), (1i128 << (self.bits - 1)) - 1),
            false => (0, (1i128 << self.bits) - 1),
        }
    }

    fn fit(self, value: i128, overflow: Overflow) -> Option<i64> {
        let (min, max) = self.range();
        match overflow {
            _ if (min..=max).contains(&value) => Some(value as i64),
            Overflow::Wrap => Some(self.extend(value as u64 & self.mask())),
            Overflow::Saturate => Some(value.clamp(min, max) as i64),
            Overflow::Fail => None,
        }
    }

    fn room_behind(self, shift: u32) -> u32 {
        WINDOW as u32 * 8 - shift - self.bits
    }

    fn mask(self) -> u64 {
        u64::MAX >> (64 - self.bits)
    }

    /// The number that the low bits stand for; the others are zero.
    fn extend(self, raw: u64) -> i64 {
        if self.signed {
            let unused = 64 - self.bits;
            (raw << unused) as i64 >> unused
        } else {
            raw as i64
        }
    }
}

/// The window as one number.
fn row(window: &[u8; WINDOW]) -> u128 {
    let mut bytes = [0; 16];
    bytes[16 - WINDOW..].copy_from_slice(window);
    u128::from_be_bytes(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::collection::vec;
    use proptest::prelude::*;

    fn bit(bytes: &[u8], at: usize) -> bool {
        bytes[at / 8] & (0x80 >> (at % 8)) != 0
    }

    /// Bytes with long stretches of one kind, so that the fast paths have something to skip.
    fn rows() -> impl Strategy<Value = Vec<u8>> {
        vec(
            (0..200usize, prop_oneof![Just(0u8), Just(255), any::<u8>()]),
            0..6,
        )
        .prop_map(|runs| {
            let run = |(n, byte): (usize, u8)| std::iter::repeat_n(byte, n);
            runs.into_iter().flat_map(run).collect()
        })
    }

    fn fields() -> impl Strategy<Value = Field> {
        (any::<bool>(), 1..=64u32).prop_map(|(signed, bits)| Field {
            signed,
            bits: if signed { bits } else { bits.min(63) },
        })
    }

    proptest! {
        #[test]
        fn counts_and_finds_as_a_walk_bit_by_bit_does(row in rows(), skip in 0..9usize) {
            let row = &row[skip.min(row.len())..];
            let bits: Vec<bool> = (0..row.len() * 8).map(|at| bit(row, at)).collect();
            prop_assert_eq!(count_ones(row), bits.iter().filter(|b| **b).count() as u64);
            for set in [false, true] {
                prop_assert_eq!(find(row, set), bits.iter().position(|b| *b == set));
            }
        }

        #[test]
        fn a_field_reads_as_it_was_written_and_leaves_the_rest_alone(
            before in any::<[u8; WINDOW]>(), field in fields(), shift in 0..8u32, value in any::<i64>(),
        ) {
            let value = field.set(value, Overflow::Wrap).unwrap();
            let mut window = before;
            field.write(&mut window, shift, value);
            prop_assert_eq!(field.read(&window, shift), value);
            let field_bits = shift as usize..(shift + field.bits) as usize;
            for at in (0..WINDOW * 8).filter(|at| !field_bits.contains(at)) {
                prop_assert_eq!(bit(&window, at), bit(&before, at));
            }
            prop_assert!(field_bits.end <= field.bytes(shift) * 8);
        }

        #[test]
        fn sums_stay_in_range(field in fields(), a in any::<i64>(), b in any::<i64>()) {
            let a = field.set(a, Overflow::Wrap).unwrap();
            let (sum, range) = (i128::from(a) + i128::from(b), 1i128 << field.bits);
            let wrapped = field.add(a, b, Overflow::Wrap).unwrap();
            prop_assert_eq!((sum - i128::from(wrapped)).rem_euclid(range), 0);
            let saturated = field.add(a, b, Overflow::Saturate).unwrap();
            match field.add(a, b, Overflow::Fail) {
                Some(fits) => prop_assert_eq!([sum, sum, sum], [fits, wrapped, saturated].map(i128::from)),
                None => prop_assert!(i128::from(saturated) != sum && i128::from(wrapped) != sum),
            }
        }
    }

    #[test]
    fn the_field_of_the_picture() {
        let mut window = [0; WINDOW];
        let field = Field {
            signed: false,
            bits: 5,
        };
        field.write(&mut window, 7, 23);
        assert_eq!(window[..2], [0b0000_0001, 0b0111_0000]);
        assert_eq!(field.bytes(7), 2);
    }

    #[test]
    fn a_negative_number_is_too_large_for_an_unsigned_field() {
        let u8s = Field {
            signed: false,
            bits: 8,
        };
        assert_eq!(u8s.set(-1, Overflow::Saturate), Some(255));
        assert_eq!(u8s.set(-1, Overflow::Wrap), Some(255));
        assert_eq!(u8s.set(-1, Overflow::Fail), None);
        assert_eq!(u8s.add(3, -5, Overflow::Saturate), Some(0));
    }
}
