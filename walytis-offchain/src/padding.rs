//! Sizes that say little: what an onlooker learns of a content's length.

/// Smallest padded size in bytes. Chosen: one size for every short message.
const SMALLEST: u64 = 256;

/// Returns the size class of a content: the bytes it is padded to, at least 256 and at most 12 % more than `len`
/// above that (Padmé; Nikitin et al., PETS 2019, §4), so that O(log log len) bits of the length show.
pub const fn size_class(len: u64) -> u64 {
    if len <= SMALLEST {
        return SMALLEST;
    }
    let exponent = len.ilog2();
    let kept_bits = exponent.ilog2() + 1;
    let mask = (1_u64 << (exponent - kept_bits)) - 1;
    match len.checked_add(mask) {
        Some(sum) => sum & !mask,
        None => u64::MAX,
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn short_contents_have_one_size() {
        assert_eq!([0, 1, 255, 256].map(size_class), [256; 4]);
        assert_eq!(size_class(257), 272);
    }

    proptest! {
        #[test]
        fn a_class_holds_its_content_with_little_waste(len in 256_u64..(1 << 40)) {
            let class = size_class(len);
            prop_assert!(class >= len && class - len <= len / 8);
            prop_assert_eq!(size_class(class), class);
        }
    }
}
