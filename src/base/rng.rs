//! Random numbers: a small seeded generator, so that a run can be repeated, and the one place that takes a seed from
//! the system.
//!
//! The generator is xoshiro256** (Blackman and Vigna, "Scrambled Linear Pseudorandom Number Generators", 2021), its
//! state filled from the seed by splitmix64. It is not meant to keep secrets: its numbers can be foretold from a few.

/// A seeded generator.
#[derive(Debug, Clone)]
pub struct Rng {
    state: [u64; 4],
}

impl Rng {
    /// The same seed gives the same numbers, always and everywhere.
    pub fn new(mut seed: u64) -> Rng {
        let state = std::array::from_fn(|_| {
            seed = seed.wrapping_add(0x9e37_79b9_7f4a_7c15);
            let z = (seed ^ (seed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
            let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
            z ^ (z >> 31)
        });
        Rng { state }
    }

    /// A generator that no one can foresee.
    pub fn from_entropy() -> Rng {
        let state = std::array::from_fn(|_| {
            let mut bytes = [0; 8];
            entropy(&mut bytes);
            u64::from_ne_bytes(bytes)
        });
        // All zeros is the one state that the generator never leaves.
        if state == [0; 4] {
            Rng::new(0)
        } else {
            Rng { state }
        }
    }

    /// A generator of its own, for a part that should not disturb the sequence of the rest.
    pub fn fork(&mut self) -> Rng {
        Rng::new(self.next_u64())
    }

    /// The next 64 bits.
    #[inline]
    pub fn next_u64(&mut self) -> u64 {
        let s = &mut self.state;
        let result = s[1].wrapping_mul(5).rotate_left(7).wrapping_mul(9);
        let shifted = s[1] << 17;
        s[2] ^= s[0];
        s[3] ^= s[1];
        s[1] ^= s[2];
        s[0] ^= s[3];
        s[2] ^= shifted;
        s[3] = s[3].rotate_left(45);
        result
    }

    /// A number in `0..n`, each as likely (Lemire's multiply and reject). `n` is at least 1.
    #[inline]
    pub fn below(&mut self, n: u64) -> u64 {
        assert!(n > 0, "below nothing");
        let mut wide = u128::from(self.next_u64()) * u128::from(n);
        if (wide as u64) < n {
            let reject = n.wrapping_neg() % n;
            while (wide as u64) < reject {
                wide = u128::from(self.next_u64()) * u128::from(n);
            }
        }
        (wide >> 64) as u64
    }

    /// An index into something of length `n`, at least 1.
    #[inline]
    pub fn index(&mut self, n: usize) -> usize {
        self.below(n as u64) as usize
    }

    /// A number in `0.0..1.0`, a multiple of 2^-53.
    #[inline]
    pub fn f64(&mut self) -> f64 {
        (self.next_u64() >> 11) as f64 / (1u64 << 53) as f64
    }

    /// `n` random hexadecimal digits: a run id has 40.
    pub fn hex(&mut self, n: usize) -> String {
        (0..n)
            .map(|_| char::from(b"0123456789abcdef"[(self.next_u64() >> 60) as usize]))
            .collect()
    }

    /// Fills `bytes`.
    pub fn fill(&mut self, bytes: &mut [u8]) {
        for chunk in bytes.chunks_mut(8) {
            let word = self.next_u64().to_le_bytes();
            chunk.copy_from_slice(&word[..chunk.len()]);
        }
    }
}

/// Fills `bytes` with what the system holds for random: good enough for secrets.
pub fn entropy(bytes: &mut [u8]) {
    let mut filled = 0;
    while filled < bytes.len() {
        let rest = &mut bytes[filled..];
        // SAFETY: the pointer and length are those of a slice we may write.
        let got = unsafe { libc::getrandom(rest.as_mut_ptr().cast(), rest.len(), 0) };
        match usize::try_from(got) {
            Ok(got) => filled += got,
            Err(_) if std::io::Error::last_os_error().kind() == std::io::ErrorKind::Interrupted => {
            }
            Err(_) => panic!(
                "the system gives no random bytes: {}",
                std::io::Error::last_os_error()
            ),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The reference implementation's first numbers for splitmix64's state of seed 0.
    #[test]
    fn sequence_is_fixed() {
        let mut rng = Rng::new(0);
        let first: Vec<u64> = (0..3).map(|_| rng.next_u64()).collect();
        assert_eq!(
            first,
            [0x99ec5f36cb75f2b4, 0xbf6e1f784956452a, 0x1a5f849d4933e6e0]
        );
        assert_eq!(Rng::new(7).hex(40), Rng::new(7).hex(40));
    }

    #[test]
    fn below_is_even() {
        let mut rng = Rng::new(1);
        let mut counts = [0u32; 7];
        for _ in 0..70_000 {
            counts[rng.index(7)] += 1;
        }
        assert!(
            counts.iter().all(|c| (9_500..10_500).contains(c)),
            "{counts:?}"
        );
        assert_eq!(rng.below(1), 0);
        assert!((0..1000).all(|_| rng.f64() < 1.0 && rng.below(u64::MAX) < u64::MAX));
    }

    #[test]
    fn entropy_differs() {
        let (mut a, mut b) = (Rng::from_entropy(), Rng::from_entropy());
        assert_ne!(a.hex(40), b.hex(40));
        assert_eq!(a.hex(40).len(), 40);
        assert_ne!(a.fork().next_u64(), b.fork().next_u64());
    }
}
