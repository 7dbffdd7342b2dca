//! Printing a double, digit for digit as Redis 7.2 does.
//!
//! Redis prints integers as integers and everything else with Grisu2 (Florian Loitsch, "Printing Floating-Point
//! Numbers Quickly and Accurately with Integers", 2010). Grisu2 always gives digits that read back as the same
//! double, but in about one case of a thousand not the fewest, so the shortest printers of the standard library
//! would now and then disagree with what clients and files already hold: we have to run the same algorithm,
//! with the same cache of powers of ten, the same choice among them and the same rounding of products.
//!
//! The idea: scale the number and the borders of its rounding interval by a power of ten so that the binary
//! exponent falls between -60 and -32. Then the integer part fits 32 bits, digits fall out of it one by one,
//! and we stop at the first digit where all further ones would stay inside the interval.

use std::fmt::{self, Write as _};

use super::number::parse_i64;

/// Text of a double: at most 24 bytes, kept on the stack.
#[derive(Clone, Copy)]
pub struct DoubleText {
    bytes: [u8; 32],
    len: u8,
}

impl DoubleText {
    fn new(text: &[u8]) -> Self {
        let mut made = DoubleText {
            bytes: [0; 32],
            len: 0,
        };
        made.put(text);
        made
    }

    fn put(&mut self, text: &[u8]) {
        let at = usize::from(self.len);
        self.bytes[at..at + text.len()].copy_from_slice(text);
        self.len += text.len() as u8;
    }

    fn zeros(&mut self, n: usize) {
        let at = usize::from(self.len);
        self.bytes[at..at + n].fill(b'0');
        self.len += n as u8;
    }

    /// What stands before the exponent.
    fn mantissa(&self) -> &[u8] {
        self.as_bytes()
            .split(|&b| b == b'e')
            .next()
            .unwrap_or_default()
    }

    /// The text, always ASCII.
    pub fn as_bytes(&self) -> &[u8] {
        &self.bytes[..usize::from(self.len)]
    }
}

impl fmt::Write for DoubleText {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        self.put(text.as_bytes());
        Ok(())
    }
}

/// The text that Redis gives a double in replies and files: `inf`, `-inf`, `nan`, `-0`, integers up to 2^62
/// plain, all others by Grisu2 (`3.3`, `1e-7`, `1.5e+22`).
pub fn format_double(value: f64) -> DoubleText {
    match as_integer(value) {
        Some(int) if value != 0.0 => DoubleText::new(itoa::Buffer::new().format(int).as_bytes()),
        _ => format_shortest(value),
    }
}

/// As [`format_double`], but with large integers by Grisu2 like all others (`1e+18`).
pub fn format_shortest(value: f64) -> DoubleText {
    if value.is_nan() {
        return DoubleText::new(b"nan");
    }
    if value.is_infinite() {
        return DoubleText::new(if value < 0.0 { b"-inf" } else { b"inf" });
    }
    if value == 0.0 {
        return DoubleText::new(if value.is_sign_negative() {
            b"-0"
        } else {
            b"0"
        });
    }
    format_grisu(value)
}

/// The text that C's `%.17g` gives a double, by which ZSCAN prints the scores of large sorted sets: `3.2999999999999998`,
/// `1e+21`.
pub fn format_g17(value: f64) -> DoubleText {
    format_g(value, 17)
}

/// The same with so many digits, from 1 to 17.
pub fn format_g(value: f64, precision: usize) -> DoubleText {
    if !value.is_finite() || value == 0.0 {
        return format_double(value);
    }
    if let Some(int) = as_integer(value)
        && int.unsigned_abs() < 10u64.pow(precision as u32)
    {
        return DoubleText::new(itoa::Buffer::new().format(int).as_bytes());
    }
    let (digits, exp10) = digits(value.abs(), precision);
    let digits = digits.as_bytes();
    let mut out = DoubleText::new(if value < 0.0 { b"-" } else { b"" });
    let len = digits.len();
    match usize::try_from(exp10) {
        Ok(whole) if whole < precision => {
            let (front, back) = digits.split_at(len.min(whole + 1));
            out.put(front);
            out.zeros(whole + 1 - front.len());
            if !back.is_empty() {
                out.put(b".");
                out.put(back);
            }
        }
        Err(_) if exp10 >= -4 => {
            out.put(b"0.");
            out.zeros(exp10.unsigned_abs() as usize - 1);
            out.put(digits);
        }
        _ => {
            out.put(&digits[..1]);
            if len > 1 {
                out.put(b".");
                out.put(&digits[1..]);
            }
            out.put(if exp10 < 0 { b"e-" } else { b"e+" });
            out.zeros(usize::from(exp10.unsigned_abs() < 10));
            out.put(itoa::Buffer::new().format(exp10.unsigned_abs()).as_bytes());
        }
    }
    out
}

/// The first `precision` digits of a number above 0, correctly rounded and without zeros at the end, and the power of ten
/// of the first.
fn digits(value: f64, precision: usize) -> (DoubleText, i32) {
    // The shortest text that reads as the number is quick to find. Where a double keeps as many digits as are asked for,
    // and there are no more of them, rounding makes nothing else of it.
    let mut text = DoubleText::new(b"");
    let is_kept = precision <= f64::DIGITS as usize && value.is_normal();
    if !is_kept || write!(text, "{value:e}").is_err() || text.mantissa().len() > precision + 1 {
        text = DoubleText::new(b"");
        let _ = write!(text, "{value:.*e}", precision - 1);
    }
    let exp10 = &text.as_bytes()[text.mantissa().len() + 1..];
    let exp10 = parse_i64(exp10).unwrap_or(0) as i32;
    let mut digits = DoubleText::new(&text.mantissa()[..1]);
    digits.put(text.mantissa().get(2..).unwrap_or_default());
    while digits.len > 1 && digits.as_bytes().ends_with(b"0") {
        digits.len -= 1;
    }
    (digits, exp10)
}

/// The integer a double stands for, if it has no fraction and its size is at most 2^62 (where Redis stops
/// printing doubles as integers).
pub fn as_integer(value: f64) -> Option<i64> {
    const LIMIT: f64 = (1u64 << 62) as f64;
    let fits = (-LIMIT..=LIMIT).contains(&value);
    (fits && value as i64 as f64 == value).then_some(value as i64)
}

const HIDDEN_BIT: u64 = 1 << 52;

/// A number `frac * 2^exp` with a 64-bit fraction.
#[derive(Clone, Copy)]
struct Fp {
    frac: u64,
    exp: i32,
}

impl Fp {
    fn normalized(self) -> Fp {
        let shift = self.frac.leading_zeros();
        Fp {
            frac: self.frac << shift,
            exp: self.exp - shift as i32,
        }
    }

    /// The upper half of the product, rounded half up.
    fn times(self, other: Fp) -> Fp {
        let wide = u128::from(self.frac) * u128::from(other.frac) + (1 << 63);
        Fp {
            frac: (wide >> 64) as u64,
            exp: self.exp + other.exp + 64,
        }
    }
}

/// A finite, non-zero double's value and the borders of the interval that rounds to it, all three normalized
/// to the upper border's exponent.
fn boundaries(value: f64) -> (Fp, Fp, Fp) {
    let bits = value.to_bits();
    let fraction = bits & (HIDDEN_BIT - 1);
    let biased = (bits >> 52 & 0x7ff) as i32;
    let w = match biased {
        0 => Fp {
            frac: fraction,
            exp: -1074,
        },
        _ => Fp {
            frac: fraction | HIDDEN_BIT,
            exp: biased - 1075,
        },
    };
    let upper = Fp {
        frac: (w.frac << 1) + 1,
        exp: w.exp - 1,
    }
    .normalized();
    // The gap below a power of two is half as wide.
    let shift = if w.frac == HIDDEN_BIT { 2 } else { 1 };
    let below = Fp {
        frac: (w.frac << shift) - 1,
        exp: w.exp - shift,
    };
    let lower = Fp {
        frac: below.frac << (below.exp - upper.exp),
        exp: upper.exp,
    };
    (lower, w.normalized(), upper)
}

const POWER_FIRST: i32 = -348;
const POWER_STEP: i32 = 8;

/// 10^-348, 10^-340, ... 10^340 as 64-bit fractions, each correctly rounded.
#[rustfmt::skip]
const POWERS: [u64; 87] = [
    0xfa8fd5a0081c0288, 0xbaaee17fa23ebf76, 0x8b16fb203055ac76, 0xcf42894a5dce35ea, 0x9a6bb0aa55653b2d,
    0xe61acf033d1a45df, 0xab70fe17c79ac6ca, 0xff77b1fcbebcdc4f, 0xbe5691ef416bd60c, 0x8dd01fad907ffc3c,
    0xd3515c2831559a83, 0x9d71ac8fada6c9b5, 0xea9c227723ee8bcb, 0xaecc49914078536d, 0x823c12795db6ce57,
    0xc21094364dfb5637, 0x9096ea6f3848984f, 0xd77485cb25823ac7, 0xa086cfcd97bf97f4, 0xef340a98172aace5,
    0xb23867fb2a35b28e, 0x84c8d4dfd2c63f3b, 0xc5dd44271ad3cdba, 0x936b9fcebb25c996, 0xdbac6c247d62a584,
    0xa3ab66580d5fdaf6, 0xf3e2f893dec3f126, 0xb5b5ada8aaff80b8, 0x87625f056c7c4a8b, 0xc9bcff6034c13053,
    0x964e858c91ba2655, 0xdff9772470297ebd, 0xa6dfbd9fb8e5b88f, 0xf8a95fcf88747d94, 0xb94470938fa89bcf,
    0x8a08f0f8bf0f156b, 0xcdb02555653131b6, 0x993fe2c6d07b7fac, 0xe45c10c42a2b3b06, 0xaa242499697392d3,
    0xfd87b5f28300ca0e, 0xbce5086492111aeb, 0x8cbccc096f5088cc, 0xd1b71758e219652c, 0x9c40000000000000,
    0xe8d4a51000000000, 0xad78ebc5ac620000, 0x813f3978f8940984, 0xc097ce7bc90715b3, 0x8f7e32ce7bea5c70,
    0xd5d238a4abe98068, 0x9f4f2726179a2245, 0xed63a231d4c4fb27, 0xb0de65388cc8ada8, 0x83c7088e1aab65db,
    0xc45d1df942711d9a, 0x924d692ca61be758, 0xda01ee641a708dea, 0xa26da3999aef774a, 0xf209787bb47d6b85,
    0xb454e4a179dd1877, 0x865b86925b9bc5c2, 0xc83553c5c8965d3d, 0x952ab45cfa97a0b3, 0xde469fbd99a05fe3,
    0xa59bc234db398c25, 0xf6c69a72a3989f5c, 0xb7dcbf5354e9bece, 0x88fcf317f22241e2, 0xcc20ce9bd35c78a5,
    0x98165af37b2153df, 0xe2a0b5dc971f303a, 0xa8d9d1535ce3b396, 0xfb9b7cd9a4a7443c, 0xbb764c4ca7a44410,
    0x8bab8eefb6409c1a, 0xd01fef10a657842c, 0x9b10a4e5e9913129, 0xe7109bfba19c0c9d, 0xac2820d9623bf429,
    0x80444b5e7aa7cf85, 0xbf21e44003acdd2d, 0x8e679c2f5e44ff8f, 0xd433179d9c8cb841, 0x9e19db92b4e31ba9,
    0xeb96bf6ebadf77d9, 0xaf87023b9bf0ee6b,
];

fn cached_power(index: usize) -> (Fp, i32) {
    let k = POWER_FIRST + index as i32 * POWER_STEP;
    // floor(k * log2(10)) - 63: the exponent that makes the fraction fill 64 bits.
    (
        Fp {
            frac: POWERS[index],
            exp: ((k * 217_706) >> 16) - 63,
        },
        k,
    )
}

/// The power of ten that brings a normalized number with exponent `exp` into the window -60..=-32. Two
/// neighbours may do; the first guess decides, so it is computed as Redis computes it.
fn power_for(exp: i32) -> (Fp, i32) {
    let approx = (f64::from(-(exp + 87)) * 0.301_029_995_663_981_14) as i32;
    let mut index = ((approx - POWER_FIRST) / POWER_STEP) as usize;
    loop {
        let (power, k) = cached_power(index);
        match exp + power.exp + 64 {
            e if e < -60 => index += 1,
            e if e > -32 => index -= 1,
            _ => return (power, k),
        }
    }
}

struct Digits {
    text: [u8; 20],
    len: usize,
    /// The number is `text * 10^k`.
    k: i32,
}

impl Digits {
    fn push(&mut self, digit: u64) {
        if digit != 0 || self.len != 0 {
            self.text[self.len] = b'0' + digit as u8;
            self.len += 1;
        }
    }

    /// Steps the last digit down towards the exact value while that brings it closer and stays in the interval.
    fn round(&mut self, delta: u64, mut rest: u64, unit: u64, wanted: u64) {
        while rest < wanted
            && delta.wrapping_sub(rest) >= unit
            && (rest.wrapping_add(unit) < wanted
                || wanted.wrapping_sub(rest) > rest.wrapping_add(unit).wrapping_sub(wanted))
        {
            self.text[self.len - 1] -= 1;
            rest = rest.wrapping_add(unit);
        }
    }
}

fn generate(w: Fp, upper: Fp, lower: Fp, k: i32) -> Digits {
    let mut digits = Digits {
        text: [0; 20],
        len: 0,
        k,
    };
    let wanted = upper.frac - w.frac;
    let mut delta = upper.frac - lower.frac;
    let point = -upper.exp as u32;
    let one = 1u64 << point;
    let mut whole = upper.frac >> point;
    let mut part = upper.frac & (one - 1);

    let mut unit = 1_000_000_000u64;
    for kappa in (0..10).rev() {
        digits.push(whole / unit);
        whole %= unit;
        let rest = (whole << point) + part;
        if rest <= delta {
            digits.k += kappa;
            digits.round(delta, rest, unit << point, wanted);
            return digits;
        }
        unit /= 10;
    }
    let mut scale = 1u64;
    for kappa in 1.. {
        part = part.wrapping_mul(10);
        delta = delta.wrapping_mul(10);
        scale = scale.wrapping_mul(10);
        digits.push(part >> point);
        part &= one - 1;
        if part < delta {
            digits.k -= kappa;
            digits.round(delta, part, one, wanted.wrapping_mul(scale));
            break;
        }
    }
    digits
}

fn format_grisu(value: f64) -> DoubleText {
    let (lower, w, upper) = boundaries(value);
    let (power, k) = power_for(upper.exp);
    let (mut lower, w, mut upper) = (lower.times(power), w.times(power), upper.times(power));
    // A product may be off by one unit: keep inside the interval.
    lower.frac += 1;
    upper.frac -= 1;
    let digits = generate(w, upper, lower, -k);
    layout(&digits, value.is_sign_negative())
}

/// Places the point: plain integers with few trailing zeros, plain fractions near one, else `d.ddde+xx`.
fn layout(digits: &Digits, negative: bool) -> DoubleText {
    let text = &digits.text[..digits.len];
    let (n, k) = (digits.len as i32, digits.k);
    let exp10 = k + n - 1;
    let mut out = DoubleText::new(if negative { b"-" } else { b"" });
    if k >= 0 && exp10 < n + 7 {
        out.put(text);
        out.zeros(k as usize);
    } else if k < 0 && (k > -7 || exp10.abs() < 4) {
        let whole = n + k;
        if whole <= 0 {
            out.put(b"0.");
            out.zeros(-whole as usize);
            out.put(text);
        } else {
            out.put(&text[..whole as usize]);
            out.put(b".");
            out.put(&text[whole as usize..]);
        }
    } else {
        out.put(&text[..1]);
        if n > 1 {
            out.put(b".");
            out.put(&text[1..]);
        }
        out.put(if exp10 < 0 { b"e-" } else { b"e+" });
        out.put(itoa::Buffer::new().format(exp10.unsigned_abs()).as_bytes());
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(value: f64) -> String {
        String::from_utf8(format_double(value).as_bytes().to_vec()).unwrap()
    }

    #[test]
    fn forms() {
        for (value, want) in [
            (0.0, "0"),
            (-0.0, "-0"),
            (3.3, "3.3"),
            (-1.5, "-1.5"),
            (17179869184.0, "17179869184"),
            (1e-7, "1e-7"),
            (0.0001, "0.0001"),
            (1e21, "1e+21"),
            (4611686018427387904.0, "4611686018427387904"),
            (9223372036854775808.0, "9223372036854776000"),
            (1.7976931348623157e308, "1.7976931348623157e+308"),
            (5e-324, "5e-324"),
            (f64::INFINITY, "inf"),
            (f64::NEG_INFINITY, "-inf"),
            (f64::NAN, "nan"),
        ] {
            assert_eq!(text(value), want);
        }
    }

    #[test]
    fn seventeen_digits() {
        for (value, want) in [
            (-0.0, "-0"),
            (3.3, "3.2999999999999998"),
            (-100.0, "-100"),
            (1234.5, "1234.5"),
            (0.0001, "0.0001"),
            (0.000123, "0.00012300000000000001"),
            (0.00001, "1.0000000000000001e-05"),
            (1e16, "10000000000000000"),
            (1e17, "1e+17"),
            (123456789012345680000.0, "1.2345678901234568e+20"),
            (1.7976931348623157e308, "1.7976931348623157e+308"),
            (f64::NEG_INFINITY, "-inf"),
        ] {
            let text = format_g17(value);
            assert_eq!(std::str::from_utf8(text.as_bytes()), Ok(want));
        }
    }

    /// Random bits, short decimals and integers, each with every precision, as C prints them.
    #[test]
    fn as_many_digits_as_asked_for() {
        let mut bits = 0x9e37_79b9_7f4a_7c15u64;
        for i in 0..60_000u32 {
            bits = bits
                .wrapping_mul(6364136223846793005)
                .wrapping_add(1442695040888963407);
            let scale = 10f64.powi((bits >> 8 & 31) as i32 - 10);
            let value = match i % 4 {
                0 => f64::from_bits(bits ^ bits >> 31),
                1 => (bits >> 44) as f64 / scale,
                2 => (bits >> (bits & 63)) as f64,
                _ => -((bits >> 20) as f64) * 0.5 / scale,
            };
            let mut c_text = [0u8; 64];
            for precision in 1..=17 {
                // SAFETY: the format takes an int and a double, and there is room for what they give.
                let len = unsafe {
                    let (to, format) = (c_text.as_mut_ptr().cast(), c"%.*g".as_ptr());
                    libc::snprintf(to, c_text.len(), format, precision as libc::c_int, value)
                };
                if value.is_finite() {
                    let text = format_g(value, precision);
                    let (text, c_text) = (text.as_bytes(), &c_text[..len as usize]);
                    assert_eq!(text, c_text, "{value:e} with {precision} digits");
                }
            }
        }
    }

    /// Bits and text as Redis 7.2.6 prints them, a quarter of them where a shorter text would have done.
    #[test]
    fn agrees_with_redis() {
        for line in include_str!("../../tests/format/double.txt").lines() {
            let (bits, want) = line.split_once(' ').unwrap();
            let value = f64::from_bits(u64::from_str_radix(bits, 16).unwrap());
            assert_eq!(text(value), want);
        }
    }

    /// Whatever is printed reads back as the same double.
    #[test]
    fn reads_back() {
        let mut bits = 0x9e37_79b9_7f4a_7c15u64;
        for _ in 0..200_000 {
            bits = bits
                .wrapping_mul(6364136223846793005)
                .wrapping_add(1442695040888963407);
            let value = f64::from_bits(bits ^ bits >> 31);
            if value.is_finite() {
                assert_eq!(
                    text(value).parse::<f64>().unwrap(),
                    value,
                    "{}",
                    text(value)
                );
            }
        }
    }
}
