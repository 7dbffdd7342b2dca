//! Whether two short texts are equal: names of commands and keys are compared for every request, and a call to the
//! library's comparison costs more than comparing them.

const HALF: usize = size_of::<u32>();
const WORD: usize = size_of::<u64>();
const TWO_WORDS: usize = 2 * WORD;

/// Whether two texts are equal, without a call for the lengths that most have.
#[inline(always)]
pub fn equal(a: &[u8], b: &[u8]) -> bool {
    if a.len() != b.len() {
        return false;
    }
    match a.len() {
        0..HALF => a.iter().eq(b),
        HALF..WORD => ends_are_equal::<HALF>(a, b),
        WORD..=TWO_WORDS => ends_are_equal::<WORD>(a, b),
        _ => a == b,
    }
}

/// Whether the first `N` bytes are equal, and the last: all of a text that is not longer than both together.
#[inline(always)]
fn ends_are_equal<const N: usize>(a: &[u8], b: &[u8]) -> bool {
    let (last_a, last_b) = (a.len() - N, b.len() - N);
    a[..N] == b[..N] && a[last_a..] == b[last_b..]
}

#[cfg(test)]
mod tests {
    use super::equal;

    #[test]
    fn texts_that_differ_in_one_byte_are_not_equal() {
        for len in 0..40 {
            let text: Vec<u8> = (0..len).collect();
            assert!(equal(&text, &text.clone()));
            assert!(!equal(&text, &[&text[..], b"x"].concat()));
            for at in 0..text.len() {
                let mut other = text.clone();
                other[at] ^= 0x80;
                assert!(!equal(&text, &other), "{at} of {len}");
            }
        }
    }
}
