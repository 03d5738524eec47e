//! Percent encoding as requests are written: everything but RFC 3986's unreserved characters is escaped.

/// Appends `text`, percent-encoded.
pub(in crate::dialect) fn encode(out: &mut String, text: &str) {
    escape(out, text, '%', |byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_' | b'~'));
}

/// Appends `text`; every byte that is not plain becomes the mark and two digits. Only ASCII may be plain.
pub(in crate::dialect) fn escape(out: &mut String, text: &str, mark: char, plain: impl Fn(u8) -> bool) {
    let digit = |half: u8| char::from(if half < 10 { b'0' + half } else { b'A' + (half - 10) });
    out.reserve(text.len());
    let mut from = 0;
    for (at, byte) in text.bytes().enumerate() {
        if byte.is_ascii() && plain(byte) {
            continue;
        }
        // Runs of plain bytes are ASCII, so they begin and end between characters.
        out.push_str(text.get(from..at).unwrap_or_default());
        out.push(mark);
        out.push(digit(byte >> 4));
        out.push(digit(byte & 15));
        from = at + 1;
    }
    out.push_str(text.get(from..).unwrap_or_default());
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const SET: &percent_encoding::AsciiSet =
        &percent_encoding::NON_ALPHANUMERIC.remove(b'-').remove(b'_').remove(b'.').remove(b'~');

    proptest! {
        #[test]
        fn what_is_encoded_is_what_the_percent_encoding_crate_gives(text in "\\PC*|[ -~]*|[a-zé%&+=?#]*") {
            let mut out = String::from("/");
            encode(&mut out, &text);
            prop_assert_eq!(out, format!("/{}", percent_encoding::utf8_percent_encode(&text, SET)));
        }
    }
}
