//! UTF-8, checked chunk by chunk.

/// What of a character the chunks so far ended in.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Utf8 {
    begun: [u8; 4],
    length: usize,
}

impl Utf8 {
    /// Whether these bytes, after all before them, are UTF-8 or the beginning of it. A character that is not whole at the
    /// end must go on in the next call.
    pub(super) fn push(&mut self, mut bytes: &[u8]) -> bool {
        while self.length > 0 {
            let Some((first, rest)) = bytes.split_first() else { return true };
            let Some(place) = self.begun.get_mut(self.length) else { return false };
            *place = *first;
            bytes = rest;
            match std::str::from_utf8(self.begun.get(..=self.length).unwrap_or_default()) {
                Ok(_) => self.length = 0,
                Err(error) if error.error_len().is_none() => self.length += 1,
                Err(_) => return false,
            }
        }
        let Err(error) = std::str::from_utf8(bytes) else { return true };
        let rest = bytes.get(error.valid_up_to()..).unwrap_or_default();
        if error.error_len().is_some() {
            return false;
        }
        let Some(begun) = self.begun.get_mut(..rest.len()) else { return false };
        begun.copy_from_slice(rest);
        self.length = rest.len();
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn text_is_text_at_any_chunk_boundary(
            parts in prop::collection::vec(prop_oneof![
                8 => ".{0,3}".prop_map(String::into_bytes),
                1 => prop::collection::vec(any::<u8>(), 1..3),
            ], 0..6),
            cut in 1_usize..6,
        ) {
            let bytes = parts.concat();
            let mut utf8 = Utf8::default();
            let good = bytes.chunks(cut).all(|chunk| utf8.push(chunk)) && utf8.push(b".");
            prop_assert_eq!(good, std::str::from_utf8(&bytes).is_ok());
        }
    }
}
