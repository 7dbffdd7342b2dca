//! The 80-bit arithmetic of INCRBYFLOAT.
//!
//! Redis computes these sums in C's `long double`, which on the machines it grew up on is x87's extended format: a sign, 15
//! bits of exponent and 64 bits of fraction. Its results show in replies and files, so we compute the same way, in
//! integers, wherever we run: read a number correctly rounded, add rounding to nearest even, print with 17 decimals.
//!
//! A finite number is `frac * 2^exp`. Numbers of everyday size go through 128-bit integers; only very long or very large
//! ones need the big integer at the end of this file.

use crate::base::quoted::is_space;

/// A number of x87's extended format.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LongDouble {
    Finite(Float),
    Infinite { negative: bool },
    NaN,
}

/// `frac * 2^exp`; `frac` fills 64 bits unless it is zero or `exp` is [`EXP_MIN`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Float {
    negative: bool,
    exp: i32,
    frac: u64,
}

/// Exponent of the smallest number, and of zero.
const EXP_MIN: i32 = -16445;
const EXP_MAX: i32 = 16320;
/// Texts of this length and longer are refused.
pub const TEXT_MAX: usize = 5 * 1024;
/// Digits go in and out of big integers nineteen at a time.
const CHUNK: u64 = 10_000_000_000_000_000_000;
/// Decimal exponents beyond these mean overflow or underflow whatever the digits.
const EXP10_MAX: i64 = 4940;
const EXP10_MIN: i64 = -4980;

impl LongDouble {
    /// Reads what Redis accepts as a long double: C's `strtold` on the whole text, hexadecimal and `inf` included, but no
    /// leading space, no NaN, nothing that overflows or vanishes.
    pub fn parse(text: &[u8]) -> Option<LongDouble> {
        if text.len() >= TEXT_MAX {
            return None;
        }
        let number = match scan(text)? {
            Scanned::Infinite { negative } => return Some(LongDouble::Infinite { negative }),
            Scanned::Hex(hex) => rounded(hex.negative, hex.frac, hex.exp, hex.more),
            Scanned::Decimal(decimal) => decimal.round(),
        };
        let vanished = number.is_zero() && text_has_value(text);
        (!vanished && number.is_finite()).then_some(number)
    }

    /// A thousand times the number, rounded up to an integer; `None` above what an `i64` holds, and the least `i64`
    /// below: seconds as milliseconds.
    pub fn thousandfold(self) -> Option<i64> {
        let Float {
            negative,
            mut exp,
            frac,
        } = match self {
            LongDouble::Finite(float) => float,
            LongDouble::Infinite { negative: true } => return Some(i64::MIN),
            LongDouble::Infinite { negative: false } | LongDouble::NaN => return None,
        };
        // The product first has to fit 64 bits again, rounded to nearest, ties to even.
        let mut product = u128::from(frac) * 1000;
        let excess = (u128::BITS - product.leading_zeros()).saturating_sub(64);
        if excess > 0 {
            let (half, rest) = (1 << (excess - 1), product & ((1 << excess) - 1));
            product >>= excess;
            if rest > half || (rest == half && product & 1 == 1) {
                product += 1;
            }
            exp += excess as i32;
        }
        let whole = match exp {
            64.. if product > 0 => u128::MAX,
            0.. => product << exp.min(63),
            _ => {
                let shift = exp.unsigned_abs();
                let floor = product.checked_shr(shift).unwrap_or(0);
                let exact = floor.checked_shl(shift).unwrap_or(0) == product;
                floor + u128::from(!exact && !negative)
            }
        };
        match i64::try_from(whole) {
            Ok(whole) if negative => Some(-whole),
            Ok(whole) => Some(whole),
            Err(_) => negative.then_some(i64::MIN),
        }
    }

    /// The sum, rounded to nearest, ties to even.
    #[allow(clippy::should_implement_trait)]
    pub fn add(self, other: LongDouble) -> LongDouble {
        use LongDouble::*;
        match (self, other) {
            (Finite(a), Finite(b)) => add_finite(a, b),
            (Infinite { negative: a }, Infinite { negative: b }) if a != b => NaN,
            (NaN, _) | (_, NaN) => NaN,
            (Infinite { negative }, _) | (_, Infinite { negative }) => Infinite { negative },
        }
    }

    pub fn is_finite(self) -> bool {
        matches!(self, LongDouble::Finite(_))
    }

    fn is_zero(self) -> bool {
        matches!(self, LongDouble::Finite(Float { frac: 0, .. }))
    }

    /// The text of replies: C's `%.17Lf` without trailing zeros, `inf`, `-inf`, `nan`; never `-0`.
    pub fn to_text(self) -> Vec<u8> {
        match self {
            LongDouble::NaN => b"nan".to_vec(),
            LongDouble::Infinite { negative: false } => b"inf".to_vec(),
            LongDouble::Infinite { negative: true } => b"-inf".to_vec(),
            LongDouble::Finite(float) => float.to_text(),
        }
    }
}

impl From<i64> for LongDouble {
    /// Exact.
    fn from(n: i64) -> LongDouble {
        rounded(n < 0, u128::from(n.unsigned_abs()), 0, false)
    }
}

impl Float {
    fn to_text(self) -> Vec<u8> {
        let mut text = Vec::new();
        if self.exp >= 0 {
            let mut whole = Big::from(self.frac);
            whole.shift_left(self.exp as u32);
            whole.print(&mut text);
        } else {
            // 121 bits at most.
            let scaled = u128::from(self.frac) * 10u128.pow(17);
            let scaled = round_shift(scaled, self.exp.unsigned_abs(), false);
            text = format!("{:018}", scaled).into_bytes();
            let point = text.len() - 17;
            text.insert(point, b'.');
            while text.last() == Some(&b'0') {
                text.pop();
            }
            if text.last() == Some(&b'.') {
                text.pop();
            }
        }
        if self.negative && text != b"0" {
            text.insert(0, b'-');
        }
        text
    }
}

/// `value / 2^shift` rounded to nearest even; `more` says that the true value is a little above `value`.
fn round_shift(value: u128, shift: u32, more: bool) -> u128 {
    if shift == 0 {
        return value;
    }
    if shift > 128 {
        return 0;
    }
    let (whole, rest) = match shift {
        128 => (0, value),
        _ => (value >> shift, value & ((1 << shift) - 1)),
    };
    let half = 1u128 << (shift - 1);
    let up = rest > half || (rest == half && (more || whole & 1 == 1));
    whole + u128::from(up)
}

/// The nearest number to `frac * 2^exp`, where `more` says that the true value is a little above that (less than
/// one unit of `frac`, which must then have at least 66 bits).
fn rounded(negative: bool, frac: u128, exp: i32, more: bool) -> LongDouble {
    let bits = 128 - frac.leading_zeros() as i32;
    // Bits to drop: down to 64, or more where the exponent would get too small.
    let drop = (bits - 64).max(EXP_MIN - exp);
    if frac == 0 || drop > 128 {
        return LongDouble::Finite(Float {
            negative,
            exp: EXP_MIN,
            frac: 0,
        });
    }
    let (mut frac, mut exp) = match drop {
        0.. => (round_shift(frac, drop as u32, more), exp + drop),
        // Shifting left stops at the smallest exponent.
        _ => (frac << -drop, exp + drop),
    };
    if frac >> 64 != 0 {
        frac >>= 1;
        exp += 1;
    }
    if exp > EXP_MAX {
        return LongDouble::Infinite { negative };
    }
    LongDouble::Finite(Float {
        negative,
        exp,
        frac: frac as u64,
    })
}

fn add_finite(a: Float, b: Float) -> LongDouble {
    // Ordered by size, so that a difference has the first one's sign.
    let (a, b) = if (a.exp, a.frac) >= (b.exp, b.frac) {
        (a, b)
    } else {
        (b, a)
    };
    let exp = a.exp - 63;
    let wide = u128::from(a.frac) << 63;
    let small = u128::from(b.frac) << 63;
    let apart = a.exp.abs_diff(b.exp);
    let (small, more) = match apart {
        0..=63 => (small >> apart, false),
        64..=127 => (small >> apart, small & ((1 << apart) - 1) != 0),
        _ => (0, b.frac != 0),
    };
    if a.negative == b.negative {
        return rounded(a.negative, wide + small, exp, more);
    }
    // What was cut off below makes the difference smaller: borrow one, and a little is left over.
    let difference = wide - small - u128::from(more);
    rounded(
        a.negative && (difference != 0 || more),
        difference,
        exp,
        more,
    )
}

// --- Reading ---------------------------------------------------------------------------------------------------

/// A number as it was written.
pub(super) enum Scanned<'a> {
    Decimal(Decimal<'a>),
    Hex(Hex),
    Infinite { negative: bool },
}

/// `0.whole frac * 10^exp10` in digits.
pub(super) struct Decimal<'a> {
    negative: bool,
    whole: &'a [u8],
    frac: &'a [u8],
    exp10: i64,
}

/// `frac * 2^exp`, plus a little if `more`.
pub(super) struct Hex {
    pub negative: bool,
    pub frac: u128,
    pub exp: i32,
    pub more: bool,
}

impl Hex {
    /// The nearest double; infinite where there is none.
    pub fn to_f64(&self) -> f64 {
        let bits = 128 - self.frac.leading_zeros() as i32;
        // Bits to drop: down to 53, or more where the result is subnormal.
        let drop = (bits - 53).max(-1074 - self.exp).max(0);
        let frac = if drop > 128 {
            0
        } else {
            round_shift(self.frac, drop as u32, self.more)
        };
        let mut value = frac as f64;
        // In steps, each exact: a power of two alone might not be a double.
        let mut exp = self.exp + drop;
        while exp != 0 && value != 0.0 && value.is_finite() {
            let step = exp.clamp(-1000, 1000);
            value *= 2f64.powi(step);
            exp -= step;
        }
        if self.negative { -value } else { value }
    }
}

/// Reads the grammar of C's `strtod`, the whole text or nothing; NaN and a leading space are refused.
pub(super) fn scan(text: &[u8]) -> Option<Scanned<'_>> {
    if text.first().is_none_or(|&b| is_space(b)) {
        return None;
    }
    let (negative, text) = match text {
        [b'-', rest @ ..] => (true, rest),
        [b'+', rest @ ..] => (false, rest),
        _ => (false, text),
    };
    if text.eq_ignore_ascii_case(b"inf") || text.eq_ignore_ascii_case(b"infinity") {
        return Some(Scanned::Infinite { negative });
    }
    if let [b'0', b'x' | b'X', rest @ ..] = text {
        return scan_hex(negative, rest).map(Scanned::Hex);
    }
    let (whole, rest) = split_digits(text, u8::is_ascii_digit);
    let (frac, rest) = match rest {
        [b'.', rest @ ..] => split_digits(rest, u8::is_ascii_digit),
        _ => (&rest[..0], rest),
    };
    if whole.is_empty() && frac.is_empty() {
        return None;
    }
    let exp10 = scan_exponent(rest, b'e')?;
    Some(Scanned::Decimal(Decimal {
        negative,
        whole,
        frac,
        exp10,
    }))
}

fn split_digits(text: &[u8], is_digit: impl Fn(&u8) -> bool) -> (&[u8], &[u8]) {
    text.split_at(text.iter().position(|b| !is_digit(b)).unwrap_or(text.len()))
}

/// The exponent that makes up the whole of `text` (0 where there is none), held within what can matter.
fn scan_exponent(text: &[u8], letter: u8) -> Option<i64> {
    let [first, rest @ ..] = text else {
        return Some(0);
    };
    if !first.eq_ignore_ascii_case(&letter) {
        return None;
    }
    let (negative, digits) = match rest {
        [b'-', rest @ ..] => (true, rest),
        [b'+', rest @ ..] => (false, rest),
        _ => (false, rest),
    };
    if digits.is_empty() || !digits.iter().all(u8::is_ascii_digit) {
        return None;
    }
    let size = digits.iter().fold(0i64, |size, b| {
        (size * 10 + i64::from(b - b'0')).min(1_000_000_000)
    });
    Some(if negative { -size } else { size })
}

fn scan_hex(negative: bool, text: &[u8]) -> Option<Hex> {
    let (whole, rest) = split_digits(text, u8::is_ascii_hexdigit);
    let (frac, rest) = match rest {
        [b'.', rest @ ..] => split_digits(rest, u8::is_ascii_hexdigit),
        _ => (&rest[..0], rest),
    };
    if whole.is_empty() && frac.is_empty() {
        return None;
    }
    let mut exp = scan_exponent(rest, b'p')? - 4 * frac.len() as i64;
    let (mut value, mut more) = (0u128, false);
    for digit in whole.iter().chain(frac) {
        let digit = char::from(*digit).to_digit(16)?;
        if value >> 120 == 0 {
            value = value << 4 | u128::from(digit);
        } else {
            more |= digit != 0;
            exp += 4;
        }
    }
    Some(Hex {
        negative,
        frac: value,
        exp: exp.clamp(-100_000, 100_000) as i32,
        more,
    })
}

/// Whether a text that reads as zero was meant to be something else: it has a digit above zero before its exponent.
pub(super) fn text_has_value(text: &[u8]) -> bool {
    let hex = text.iter().any(|b| b.eq_ignore_ascii_case(&b'x'));
    let exponent: &[u8] = if hex { b"pP" } else { b"eE" };
    text.iter()
        .take_while(|b| !exponent.contains(b))
        .any(|b| b.is_ascii_hexdigit() && *b != b'0')
}

impl Decimal<'_> {
    fn round(&self) -> LongDouble {
        let digits = || {
            self.whole
                .iter()
                .chain(self.frac)
                .map(|b| u64::from(b - b'0'))
        };
        let exp10 = self.exp10 - self.frac.len() as i64;
        let zeros = digits().take_while(|&d| d == 0).count();
        let count = self.whole.len() + self.frac.len() - zeros;
        let zero = LongDouble::Finite(Float {
            negative: self.negative,
            exp: EXP_MIN,
            frac: 0,
        });
        // Where the first digit stands decides what is far out of reach.
        match count as i64 + exp10 {
            _ if count == 0 => return zero,
            place if place > EXP10_MAX => {
                return LongDouble::Infinite {
                    negative: self.negative,
                };
            }
            place if place < EXP10_MIN => return zero,
            _ => {}
        }
        let exp10 = exp10 as i32;
        if count <= 19 && exp10.unsigned_abs() <= 27 {
            let value = digits()
                .skip(zeros)
                .fold(0, |value, digit| value * 10 + digit);
            return self.round_small(value, exp10);
        }
        let mut value = Big::default();
        let (mut chunk, mut scale) = (0, 1);
        for digit in digits().skip(zeros) {
            (chunk, scale) = (chunk * 10 + digit, scale * 10);
            if scale == CHUNK {
                value.times_plus(CHUNK, chunk);
                (chunk, scale) = (0, 1);
            }
        }
        value.times_plus(scale, chunk);
        self.round_big(value, exp10)
    }

    /// 5^27 fits 63 bits, so that product and quotient fit 128.
    fn round_small(&self, value: u64, exp10: i32) -> LongDouble {
        let five = 5u128.pow(exp10.unsigned_abs());
        if exp10 >= 0 {
            return rounded(self.negative, u128::from(value) * five, exp10, false);
        }
        let shift = u128::from(value).leading_zeros();
        let value = u128::from(value) << shift;
        rounded(
            self.negative,
            value / five,
            exp10 - shift as i32,
            value % five != 0,
        )
    }

    fn round_big(&self, mut value: Big, exp10: i32) -> LongDouble {
        let mut five = Big::from(1);
        for _ in 0..exp10.unsigned_abs() / 27 {
            five.times_plus(5u64.pow(27), 0);
        }
        five.times_plus(5u64.pow(exp10.unsigned_abs() % 27), 0);
        if exp10 >= 0 {
            let (frac, exp, more) = value.times(&five).top();
            return rounded(self.negative, frac, exp + exp10, more);
        }
        // Scaled so that the quotient has 127 or 128 bits.
        let shift = 127 + five.bits() as i32 - value.bits() as i32;
        if shift >= 0 {
            value.shift_left(shift as u32);
        } else {
            five.shift_left(shift.unsigned_abs());
        }
        let (quotient, more) = value.divide(five);
        rounded(self.negative, quotient, exp10 - shift, more)
    }
}

// --- Big integers ----------------------------------------------------------------------------------------------

/// A natural number, least limb first, no zero limb at the end.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
struct Big(Vec<u64>);

impl From<u64> for Big {
    fn from(n: u64) -> Big {
        Big(if n == 0 { vec![] } else { vec![n] })
    }
}

impl Big {
    fn bits(&self) -> usize {
        self.0
            .last()
            .map_or(0, |top| self.0.len() * 64 - top.leading_zeros() as usize)
    }

    fn trim(&mut self) {
        while self.0.last() == Some(&0) {
            self.0.pop();
        }
    }

    fn times_plus(&mut self, factor: u64, plus: u64) {
        let mut carry = plus;
        for limb in &mut self.0 {
            let wide = u128::from(*limb) * u128::from(factor) + u128::from(carry);
            *limb = wide as u64;
            carry = (wide >> 64) as u64;
        }
        if carry != 0 {
            self.0.push(carry);
        }
    }

    fn times(&self, other: &Big) -> Big {
        let mut product = vec![0; self.0.len() + other.0.len()];
        for (i, &a) in self.0.iter().enumerate() {
            let mut carry = 0;
            for (j, &b) in other.0.iter().enumerate() {
                let wide =
                    u128::from(a) * u128::from(b) + u128::from(product[i + j]) + u128::from(carry);
                product[i + j] = wide as u64;
                carry = (wide >> 64) as u64;
            }
            product[i + other.0.len()] = carry;
        }
        let mut product = Big(product);
        product.trim();
        product
    }

    fn shift_left(&mut self, n: u32) {
        let bits = n % 64;
        if bits != 0 {
            self.times_plus(1 << bits, 0);
        }
        if !self.0.is_empty() {
            self.0
                .splice(0..0, std::iter::repeat_n(0, (n / 64) as usize));
        }
    }

    /// The upper 128 bits, their exponent, and whether anything was below them.
    fn top(&self) -> (u128, i32, bool) {
        let limb = |i: usize| self.0.len().checked_sub(i + 1).map_or(0, |at| self.0[at]);
        let below = self.0.len().saturating_sub(3);
        let lead = limb(0).leading_zeros();
        let mut top = u128::from(limb(0)) << 64 | u128::from(limb(1));
        let mut rest = limb(2);
        if lead > 0 {
            top = top << lead | u128::from(limb(2) >> (64 - lead));
            rest = limb(2) << lead;
        }
        let more = rest != 0 || self.0[..below].iter().any(|&limb| limb != 0);
        (top, self.0.len() as i32 * 64 - 128 - lead as i32, more)
    }

    /// Quotient (which must fit 128 bits) and whether there is a remainder, bit by bit.
    fn divide(mut self, mut divisor: Big) -> (u128, bool) {
        let steps = (self.bits() + 1).saturating_sub(divisor.bits());
        let mut quotient = 0;
        divisor.shift_left(steps as u32);
        for _ in 0..=steps {
            quotient <<= 1;
            if self.at_least(&divisor) {
                self.subtract(&divisor);
                quotient |= 1;
            }
            divisor.halve();
        }
        (quotient, !self.0.is_empty())
    }

    fn at_least(&self, other: &Big) -> bool {
        let by_limbs = || self.0.iter().rev().cmp(other.0.iter().rev());
        self.0.len().cmp(&other.0.len()).then_with(by_limbs).is_ge()
    }

    fn subtract(&mut self, other: &Big) {
        let mut borrow = false;
        for (i, limb) in self.0.iter_mut().enumerate() {
            let (less, under) = limb.overflowing_sub(other.0.get(i).copied().unwrap_or(0));
            let (less, under_more) = less.overflowing_sub(u64::from(borrow));
            *limb = less;
            borrow = under || under_more;
        }
        self.trim();
    }

    fn halve(&mut self) {
        let mut carry = 0;
        for limb in self.0.iter_mut().rev() {
            let low = *limb & 1;
            *limb = *limb >> 1 | carry << 63;
            carry = low;
        }
        self.trim();
    }

    /// Appends the decimal digits.
    fn print(mut self, text: &mut Vec<u8>) {
        let mut chunks = Vec::new();
        while !self.0.is_empty() {
            let mut rest = 0u64;
            for limb in self.0.iter_mut().rev() {
                let wide = u128::from(rest) << 64 | u128::from(*limb);
                *limb = (wide / u128::from(CHUNK)) as u64;
                rest = wide.wrapping_sub(u128::from(*limb) * u128::from(CHUNK)) as u64;
            }
            self.trim();
            chunks.push(rest);
        }
        text.extend_from_slice(chunks.pop().unwrap_or(0).to_string().as_bytes());
        for chunk in chunks.iter().rev() {
            text.extend_from_slice(format!("{chunk:019}").as_bytes());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sum(a: &[u8], b: &[u8]) -> Vec<u8> {
        match (LongDouble::parse(a), LongDouble::parse(b)) {
            (Some(a), Some(b)) if a.add(b).is_finite() => a.add(b).to_text(),
            (Some(_), Some(_)) => b"N".to_vec(),
            _ => b"R".to_vec(),
        }
    }

    /// Answers of Redis 7.2.6 to INCRBYFLOAT: `value|increment|result`, R where it refuses one of the two, N where the
    /// sum would be infinite or no number.
    #[test]
    fn agrees_with_redis() {
        let table = include_bytes!("../../tests/format/longdouble.txt");
        for line in table.split(|&b| b == b'\n').filter(|line| !line.is_empty()) {
            let fields: Vec<&[u8]> = line.split(|&b| b == b'|').collect();
            let (got, want) = (sum(fields[0], fields[1]), fields[2]);
            assert!(
                got == want,
                "{}\ngot {}",
                line.escape_ascii(),
                got.escape_ascii()
            );
        }
    }

    #[test]
    fn edges() {
        for (a, b, want) in [
            ("5.0e3", "200", "5200"),
            ("0.1", "0.2", "0.3"),
            ("-1e-20", "0", "0"),
            ("1e4932", "1e4932", "N"),
            ("1.18973149535723176509e4932", "0", "R"),
            ("inf", "-inf", "N"),
            ("inf", "1", "N"),
            ("9223372036854775807", "1", "9223372036854775808"),
            ("18446744073709551615", "1", "18446744073709551616"),
            ("18446744073709551615", "2", "18446744073709551616"),
            ("3.6e-4951", "-3.6e-4951", "0"),
            ("1e-4951", "0", "R"),
            ("1.000000000000000005", "0", "1"),
            ("0.000000000000000005", "0", "0"),
            ("0.000000000000000015", "0", "0.00000000000000002"),
        ] {
            assert_eq!(
                String::from_utf8(sum(a.as_bytes(), b.as_bytes())).unwrap(),
                want,
                "{a} {b}"
            );
        }
        assert_eq!(
            LongDouble::from(i64::MIN).to_text(),
            i64::MIN.to_string().into_bytes()
        );
        assert_eq!(LongDouble::parse(&[b'1'; TEXT_MAX]), None);
    }

    /// A text of five thousand digits costs little, and so does printing the largest number.
    #[test]
    fn long_ones() {
        let number = LongDouble::parse(b"1e4932").unwrap();
        let text = number.to_text();
        assert_eq!(text.len(), 4933);
        assert_eq!(LongDouble::parse(&text), Some(number));
        assert_eq!(
            LongDouble::parse(&[b"0.", &[b'3'; 5000][..]].concat()),
            LongDouble::parse(&[b"0.", &[b'3'; 50][..]].concat())
        );
    }
}
