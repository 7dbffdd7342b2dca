//! Whether two short texts are equal: names of commands and keys are compared for every request, and a call to the
//! library's comparison costs more than comparing them.

const HALF: usize = size_of::<u32>();
const WORD: usize = size_of::<u64>();

/// Whether two texts are equal, without a call for the lengths that most have.
#[inline(always)]
pub fn equal(a: &[u8], b: &[u8]) -> bool {
    if a.len() != b.len() {
        return false;
    }
    // The two chunks overlap in a text that is not twice as long as one.
    if a.len() <= 2 * HALF {
        return match (ends::<HALF>(a), ends::<HALF>(b)) {
            (Some(a), Some(b)) => a == b,
            _ => a.iter().eq(b),
        };
    }
    if a.len() <= 2 * WORD
        && let (Some(a), Some(b)) = (ends::<WORD>(a), ends::<WORD>(b))
    {
        return a == b;
    }
    a == b
}

/// The first `N` bytes and the last.
#[inline(always)]
fn ends<const N: usize>(text: &[u8]) -> Option<([u8; N], [u8; N])> {
    Some((*text.first_chunk()?, *text.last_chunk()?))
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
