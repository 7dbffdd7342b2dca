//! What of a certificate has to be known beside what the library tells: enough to check one of version 1, which has no
//! extensions, and to know when any of them is valid.
//!
//! ```text
//! Certificate = SEQUENCE { body, algorithm, BIT STRING signature }
//! body        = SEQUENCE { [0] version?, serial, algorithm, issuer, SEQUENCE { from, until }, subject, key, ... }
//! ```
//! Each item is a tag, a length and so many bytes (X.690). Nothing here is copied.

use rustls::pki_types::UnixTime;

const INTEGER: u8 = 0x02;
const BIT_STRING: u8 = 0x03;
const UTC_TIME: u8 = 0x17;
const GENERALIZED_TIME: u8 = 0x18;
const SEQUENCE: u8 = 0x30;
const VERSION: u8 = 0xa0;

/// A certificate's parts, as they stand in it.
#[derive(Debug)]
pub struct Certificate<'a> {
    /// What the signature is over.
    pub body: &'a [u8],
    /// It says no version, which means the first: it has no extensions.
    pub is_first_version: bool,
    /// Names, without tag and length.
    pub issuer: &'a [u8],
    pub subject: &'a [u8],
    /// The public key with its algorithm: the whole item.
    pub key: &'a [u8],
    /// Of the signature, without tag and length.
    pub algorithm: &'a [u8],
    pub signature: &'a [u8],
    /// Unix times in seconds, both included.
    pub valid: (i64, i64),
}

impl<'a> Certificate<'a> {
    /// Takes one apart; `None` if it is none.
    pub fn parse(der: &'a [u8]) -> Option<Certificate<'a>> {
        let mut outer = Items(Items(der).take(SEQUENCE)?.inner);
        let body = outer.take(SEQUENCE)?;
        let algorithm = outer.take(SEQUENCE)?.inner;
        // (The first byte counts the bits that the last one has too many.)
        let signature = outer.take(BIT_STRING)?.inner.strip_prefix(&[0])?;
        let mut items = Items(body.inner);
        let version = items.take(VERSION);
        items.take(INTEGER)?;
        items.take(SEQUENCE)?;
        let issuer = items.take(SEQUENCE)?.inner;
        let mut valid = Items(items.take(SEQUENCE)?.inner);
        let valid = (valid.time()?, valid.time()?);
        Some(Certificate {
            body: body.whole,
            is_first_version: version.is_none(),
            issuer,
            subject: items.take(SEQUENCE)?.inner,
            key: items.take(SEQUENCE)?.whole,
            algorithm,
            signature,
            valid,
        })
    }

    /// True if it is valid at this time.
    pub fn is_valid_at(&self, now: UnixTime) -> bool {
        i64::try_from(now.as_secs()).is_ok_and(|now| self.valid.0 <= now && now <= self.valid.1)
    }
}

/// What is left of a row of items.
struct Items<'a>(&'a [u8]);

/// An item, with its tag and length and without.
struct Item<'a> {
    whole: &'a [u8],
    inner: &'a [u8],
}

impl<'a> Items<'a> {
    /// Takes the next item, if it has this tag.
    fn take(&mut self, tag: u8) -> Option<Item<'a>> {
        let (&first, rest) = self.0.split_first()?;
        if first != tag {
            return None;
        }
        let (&short, mut rest) = rest.split_first()?;
        let mut len = usize::from(short);
        if short >= 0x80 {
            let bytes = rest.get(..usize::from(short & 0x7f))?;
            if !(1..=3).contains(&bytes.len()) {
                return None;
            }
            len = bytes.iter().fold(0, |len, &b| len << 8 | usize::from(b));
            rest = &rest[bytes.len()..];
        }
        let (inner, after) = rest.split_at_checked(len)?;
        let whole = &self.0[..self.0.len() - after.len()];
        self.0 = after;
        Some(Item { whole, inner })
    }

    /// A point in time, of either kind, in Unix seconds.
    fn time(&mut self) -> Option<i64> {
        if let Some(item) = self.take(UTC_TIME) {
            let year = digits(item.inner, 0..2)?;
            // (Two digits stand for the years from 1950 on.)
            let century = if year < 50 { 2000 } else { 1900 };
            return seconds(century + year, item.inner.get(2..)?);
        }
        let text = self.take(GENERALIZED_TIME)?.inner;
        seconds(digits(text, 0..4)?, text.get(4..)?)
    }
}

fn digits(text: &[u8], range: std::ops::Range<usize>) -> Option<i64> {
    text.get(range)?.iter().try_fold(0, |n, b| {
        b.is_ascii_digit().then(|| n * 10 + i64::from(b - b'0'))
    })
}

/// What follows the year: `MMDDHHMMSSZ`.
fn seconds(year: i64, rest: &[u8]) -> Option<i64> {
    if rest.len() != 11 || rest[10] != b'Z' {
        return None;
    }
    let field = |at: usize| digits(rest, at..at + 2);
    let (month, day) = (field(0)?, field(2)?);
    if !(1..=12).contains(&month) || !(1..=31).contains(&day) {
        return None;
    }
    // Years that begin in March have the leap day at their end.
    let (y, m) = if month > 2 {
        (year, month - 3)
    } else {
        (year - 1, month + 9)
    };
    let days =
        y * 365 + y.div_euclid(4) - y.div_euclid(100) + y.div_euclid(400) + (m * 153 + 2) / 5 + day
            - 1
            - 719_468;
    Some(days * 86_400 + field(4)? * 3600 + field(6)? * 60 + field(8)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn time(tag: u8, text: &[u8]) -> Option<i64> {
        Items(&[&[tag, text.len() as u8], text].concat()).time()
    }

    #[test]
    fn both_kinds_of_time_are_read() {
        assert_eq!(time(UTC_TIME, b"700101000000Z"), Some(0));
        assert_eq!(time(UTC_TIME, b"240229235959Z"), Some(1_709_251_199));
        assert_eq!(
            time(GENERALIZED_TIME, b"20500301000001Z"),
            Some(2_529_705_601)
        );
        for bad in [
            &b"240229235959"[..],
            b"24022923595Z",
            b"2x0229235959Z",
            b"241329235959Z",
            b"",
        ] {
            assert_eq!(time(UTC_TIME, bad), None);
        }
    }

    #[test]
    fn what_is_cut_short_or_wrong_is_none() {
        let key = rcgen::KeyPair::generate().unwrap();
        let params = rcgen::CertificateParams::new(vec!["a".into()]).unwrap();
        let made = params.self_signed(&key).unwrap();
        let der = made.der().as_ref();
        let parsed = Certificate::parse(der).unwrap();
        assert_eq!(parsed.issuer, parsed.subject);
        assert!(!parsed.is_first_version && parsed.valid.0 < parsed.valid.1);
        for len in 0..der.len() {
            assert!(Certificate::parse(&der[..len]).is_none(), "{len}");
        }
        for at in 0..der.len() {
            let mut other = der.to_vec();
            other[at] ^= 0xff;
            // (Whatever comes of it, it ends.)
            let _ = Certificate::parse(&other);
        }
    }
}
