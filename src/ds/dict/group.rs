//! Sixteen tags compared at once: SSE2 where it is always there (x86-64), NEON (AArch64), else a loop
//! that compilers know how to vectorise.

/// Slots that are probed together.
pub(super) const GROUP: usize = 16;

/// Bit i of the answer says whether byte i of the sixteen at `tags` equals `tag`.
///
/// # Safety
/// Sixteen bytes are readable at `tags`, which is a multiple of 16.
#[inline(always)]
#[cfg(target_arch = "x86_64")]
pub(super) unsafe fn matches(tags: *const u8, tag: u8) -> u32 {
    use std::arch::x86_64::{_mm_cmpeq_epi8, _mm_load_si128, _mm_movemask_epi8, _mm_set1_epi8};
    // SAFETY: aligned and readable, says the caller; SSE2 is part of x86-64.
    unsafe {
        let group = _mm_load_si128(tags.cast());
        _mm_movemask_epi8(_mm_cmpeq_epi8(group, _mm_set1_epi8(tag as i8))) as u32
    }
}

/// As above.
///
/// # Safety
/// As above.
#[inline(always)]
#[cfg(target_arch = "aarch64")]
pub(super) unsafe fn matches(tags: *const u8, tag: u8) -> u32 {
    use std::arch::aarch64::{
        vaddv_u8, vandq_u8, vceqq_u8, vdupq_n_u8, vget_high_u8, vget_low_u8, vld1q_u8,
    };
    const WEIGHTS: [u8; GROUP] = [1, 2, 4, 8, 16, 32, 64, 128, 1, 2, 4, 8, 16, 32, 64, 128];
    // SAFETY: readable, says the caller; NEON is part of AArch64.
    unsafe {
        let equal = vceqq_u8(vld1q_u8(tags), vdupq_n_u8(tag));
        let weighted = vandq_u8(equal, vld1q_u8(WEIGHTS.as_ptr()));
        u32::from(vaddv_u8(vget_low_u8(weighted)))
            | u32::from(vaddv_u8(vget_high_u8(weighted))) << 8
    }
}

/// As above.
///
/// # Safety
/// As above.
#[inline(always)]
#[cfg(not(any(target_arch = "x86_64", target_arch = "aarch64")))]
pub(super) unsafe fn matches(tags: *const u8, tag: u8) -> u32 {
    // SAFETY: readable, says the caller.
    let group = unsafe { tags.cast::<[u8; GROUP]>().read() };
    group
        .iter()
        .enumerate()
        .fold(0, |mask, (i, &t)| mask | u32::from(t == tag) << i)
}

/// The slots in use: tags that are not 0.
///
/// # Safety
/// As for `matches`.
#[inline(always)]
pub(super) unsafe fn used(tags: *const u8) -> u32 {
    // SAFETY: passed on.
    !unsafe { matches(tags, 0) } & 0xffff
}

/// The positions of the bits set in a mask, lowest first.
#[derive(Clone, Copy)]
pub(super) struct Bits(pub u32);

impl Iterator for Bits {
    type Item = usize;
    #[inline(always)]
    fn next(&mut self) -> Option<usize> {
        if self.0 == 0 {
            return None;
        }
        let i = self.0.trailing_zeros() as usize;
        self.0 &= self.0 - 1;
        Some(i)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[repr(align(16))]
    struct Aligned([u8; GROUP]);

    #[test]
    fn every_position_of_every_byte() {
        let mut tags = Aligned([0; GROUP]);
        for (i, t) in tags.0.iter_mut().enumerate() {
            *t = [0, 1, 0x7f, 0x80, 0xff][i * 7 % 5];
        }
        for tag in 0..=255 {
            let want: u32 = (0..GROUP)
                .filter(|&i| tags.0[i] == tag)
                .map(|i| 1 << i)
                .sum();
            // SAFETY: sixteen aligned bytes.
            let (got, used) = unsafe { (matches(tags.0.as_ptr(), tag), used(tags.0.as_ptr())) };
            assert_eq!(got, want);
            assert_eq!(
                used,
                (0..GROUP).filter(|&i| tags.0[i] != 0).map(|i| 1 << i).sum()
            );
            assert_eq!(
                Bits(got).collect::<Vec<_>>(),
                (0..GROUP).filter(|&i| tags.0[i] == tag).collect::<Vec<_>>()
            );
        }
    }
}
