//! What commands that wait have in common: their timeout, and how they say that they wait.

use crate::base::longdouble::LongDouble;
use crate::base::number::parse_i64;
use crate::cmd::fault::{Block, CmdResult, Fault, Flow, OnTimeout};
use crate::object::Type;

const NOT_A_FLOAT: Fault = Fault::new("ERR timeout is not a float or out of range");
const NOT_AN_INTEGER: Fault = Fault::new("ERR timeout is not an integer or out of range");
const OUT_OF_RANGE: Fault = Fault::new("ERR timeout is out of range");
const NEGATIVE: Fault = Fault::new("ERR timeout is negative");

/// When a command gives up that may wait for `timeout` seconds: unix time in ms, `None` for 0, which is for ever.
/// Fractions count, down to the millisecond begun.
pub fn deadline(timeout: &[u8], now_ms: u64) -> Result<Option<u64>, Fault> {
    let seconds = LongDouble::parse(timeout).ok_or(NOT_A_FLOAT)?;
    let ms = seconds.thousandfold().ok_or(OUT_OF_RANGE)?;
    match u64::try_from(ms) {
        Err(_) => Err(NEGATIVE),
        Ok(0) => Ok(None),
        Ok(ms) => match ms.checked_add(now_ms) {
            Some(at) if i64::try_from(at).is_ok() => Ok(Some(at)),
            _ => Err(OUT_OF_RANGE),
        },
    }
}

/// The same for a command that takes whole milliseconds.
pub fn deadline_ms(timeout: &[u8], now_ms: u64) -> Result<Option<u64>, Fault> {
    let ms = parse_i64(timeout).ok_or(NOT_AN_INTEGER)?;
    match u64::try_from(ms).map_err(|_| NEGATIVE)? {
        0 => Ok(None),
        ms if ms > i64::MAX as u64 - now_ms => Err(OUT_OF_RANGE),
        ms => Ok(Some(now_ms + ms)),
    }
}

/// The command waits until one of the keys holds such a type.
pub fn wait_for(keys: &[&[u8]], waits_for: Type, deadline: Option<u64>) -> CmdResult {
    Ok(Flow::Block(Box::new(Block {
        keys: keys.iter().map(|&key| key.into()).collect(),
        waits_for,
        deadline,
        on_timeout: OnTimeout::NullArray,
        wake_on_delete: false,
    })))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn timeouts_are_read_as_redis_reads_them() {
        let now = 1_700_000_000_000;
        let at = |text: &str| deadline(text.as_bytes(), now).map(|at| at.map(|at| at - now));
        for (text, want) in [
            ("0", Ok(None)),
            ("-0", Ok(None)),
            ("1", Ok(Some(1000))),
            ("0.001", Ok(Some(1))),
            ("0.0001", Ok(Some(1))),
            ("4.35", Ok(Some(4350))),
            ("0.29", Ok(Some(290))),
            ("1e-30", Ok(Some(1))),
            ("0x10", Ok(Some(16_000))),
            // What is less than a millisecond below zero is none.
            ("-0.0009", Ok(None)),
            ("-0.01", Err(NEGATIVE)),
            ("-1", Err(NEGATIVE)),
            ("-1e300", Err(NEGATIVE)),
            ("-inf", Err(NEGATIVE)),
            ("inf", Err(OUT_OF_RANGE)),
            ("0x7FFFFFFFFFFFFF", Err(OUT_OF_RANGE)),
            ("9223372036854775807", Err(OUT_OF_RANGE)),
            ("9223372036854775.807", Err(OUT_OF_RANGE)),
            ("9223370336854775", Ok(Some(9_223_370_336_854_775_000))),
            ("9223370336854776", Err(OUT_OF_RANGE)),
            ("", Err(NOT_A_FLOAT)),
            (" 1", Err(NOT_A_FLOAT)),
            ("1s", Err(NOT_A_FLOAT)),
            ("nan", Err(NOT_A_FLOAT)),
        ] {
            assert_eq!(at(text), want, "{text:?}");
        }
    }
}
