//! INCRBYFLOAT computes with a mantissa of 64 bits and prints 17 digits: both to the last one.

use redstart::base::rng::Rng;

use crate::compare::show;
use crate::node::{Conn, Node, both, encode};
use crate::random::seed;

const PAIRS: usize = 100_000;
const AT_ONCE: usize = 500;

/// A number as a client might write it, of any size and length, sometimes none at all.
fn number(rng: &mut Rng) -> String {
    let sign = ["", "", "-", "+"][rng.index(4)];
    let digits = |rng: &mut Rng, n: usize| {
        (0..n)
            .map(|_| char::from(b'0' + rng.index(10) as u8))
            .collect::<String>()
    };
    let (whole, part) = (rng.index(20) + 1, rng.index(24));
    match rng.below(40) {
        0 => [
            "inf", "-inf", "nan", "", " 1", "1 ", "1e", "0x", ".", "-", "1e99999", "1e-99999",
            "1\0",
        ][rng.index(13)]
        .into(),
        1 => format!(
            "{sign}0x{:x}.{:x}p{}",
            rng.below(1 << 40),
            rng.below(1 << 30),
            rng.below(200) as i64 - 100
        ),
        2 => format!(
            "{sign}{}e{}",
            digits(rng, whole),
            rng.below(9900) as i64 - 4950
        ),
        3 => format!("{sign}{}", digits(rng, 200)),
        4..8 => format!("{sign}{}", rng.next_u64() >> rng.below(63)),
        8..14 => format!(
            "{sign}{}.{}e{}",
            digits(rng, 1),
            digits(rng, part),
            rng.below(40) as i64 - 20
        ),
        14..20 => format!("{sign}{}", rng.f64() * [1.0, 1e3, 1e9, 1e17][rng.index(4)]),
        20..26 => format!("{sign}{}.{}", digits(rng, 1), digits(rng, 2)),
        26..28 => format!("{sign}.{}", digits(rng, part)),
        28..30 => format!("{sign}{}.", digits(rng, whole)),
        _ => format!("{sign}{}.{}", digits(rng, whole), digits(rng, part)),
    }
}

#[test]
fn incrbyfloat_agrees_to_the_last_digit() {
    let seed = seed();
    let nodes = both(&[]);
    let mut rng = Rng::new(seed);
    let mut conns = nodes.each_ref().map(Node::connect);
    for _ in 0..PAIRS / AT_ONCE {
        let pairs: Vec<(String, String)> = (0..AT_ONCE)
            .map(|_| (number(&mut rng), number(&mut rng)))
            .collect();
        let mut bytes = Vec::new();
        for (value, increment) in &pairs {
            encode(&["SET", "k", value], &mut bytes);
            encode(&["INCRBYFLOAT", "k", increment], &mut bytes);
        }
        for conn in &mut conns {
            conn.send_raw(&bytes);
        }
        for (value, increment) in &pairs {
            let _ = conns.each_mut().map(Conn::reply);
            let [ours, theirs] = conns.each_mut().map(Conn::reply);
            assert!(
                ours == theirs,
                "seed {seed}: {value:?} + {increment:?}: {} / {}",
                show(&ours),
                show(&theirs)
            );
        }
    }
}
