//! Names that one header line carries exactly, and that look like what they are.
//!
//! Verified identity goes upstream in headers. HTTP takes white space from both ends of a header's value (RFC 9110,
//! section 5.5), and servers take more than that: Unicode's white space, no-break spaces, a byte order mark. Then the
//! decision would be made on one name, and the data be given to another. So such a name is refused, not trimmed: a
//! restriction on `alice` must not be passed by ` alice`, who arrives as `alice`.

/// True if this is a name that can stand in a header and arrives there as it is: not empty, without control characters,
/// line or paragraph separators and characters that nobody sees, and without white space at its ends. It goes out as
/// the bytes of its UTF-8.
#[must_use]
pub fn is_exact(name: &str) -> bool {
    let ends = |c: char| c.is_whitespace() || is_blank(c) || is_invisible(c) || matches!(c, '\u{200c}' | '\u{200d}');
    match (name.chars().next(), name.chars().next_back()) {
        (Some(first), Some(last)) if !ends(first) && !ends(last) => {
            // Nearly all names are ASCII, and there only control characters are left to look for.
            if name.is_ascii() {
                name.bytes().all(|byte| byte >= b' ' && byte != 0x7f)
            } else {
                !name.chars().any(|c| c.is_control() || is_invisible(c))
            }
        }
        _ => false,
    }
}

/// Letters and marks that are drawn as nothing: fine inside of a word of their script, not at the end of a name.
fn is_blank(c: char) -> bool {
    matches!(
        c,
        '\u{34f}'
            | '\u{115f}'
            | '\u{1160}'
            | '\u{17b4}'
            | '\u{17b5}'
            | '\u{2800}'
            | '\u{3164}'
            | '\u{ffa0}'
            | '\u{180b}'..='\u{180f}'
    )
}

/// Separators of lines, and format characters that are not needed to write any word: with them, two names look the same.
fn is_invisible(c: char) -> bool {
    matches!(
        c,
        '\u{ad}' | '\u{61c}' | '\u{180e}' | '\u{200b}' | '\u{200e}' | '\u{200f}' | '\u{2028}'..='\u{202e}'
            | '\u{2060}'..='\u{206f}' | '\u{feff}' | '\u{fff0}'..='\u{fffb}' | '\u{e0000}'..='\u{e007f}'
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// White space, and what is drawn as nothing, as Unicode 15 has it.
    const NOTHINGS: [char; 37] = [
        ' ',
        '\t',
        '\n',
        '\r',
        '\u{b}',
        '\u{c}',
        '\u{85}',
        '\u{a0}',
        '\u{1680}',
        '\u{2000}',
        '\u{2001}',
        '\u{2002}',
        '\u{2003}',
        '\u{2004}',
        '\u{2005}',
        '\u{2006}',
        '\u{2007}',
        '\u{2008}',
        '\u{2009}',
        '\u{200a}',
        '\u{200b}',
        '\u{200c}',
        '\u{200d}',
        '\u{2028}',
        '\u{2029}',
        '\u{202f}',
        '\u{205f}',
        '\u{2060}',
        '\u{3000}',
        '\u{feff}',
        '\u{ad}',
        '\u{180e}',
        '\u{3164}',
        '\u{115f}',
        '\u{202e}',
        '\u{2800}',
        '\u{e0020}',
    ];

    #[test]
    fn nothing_at_either_end_and_no_name_of_nothing_is_exact() {
        assert!(!is_exact(""));
        for c in NOTHINGS {
            for name in [format!("{c}"), format!("{c}alice"), format!("alice{c}"), format!("{c}{c}"), format!("é{c}")]
            {
                assert!(!is_exact(&name), "{name:?}");
            }
        }
    }

    #[test]
    fn no_control_character_or_line_separator_is_exact_anywhere() {
        for c in (0..=0x1f).chain(0x7f..=0x9f).filter_map(char::from_u32).chain(['\u{2028}', '\u{2029}', '\u{feff}']) {
            assert!(!is_exact(&format!("a{c}b")), "{c:?}");
            assert!(!is_exact(&format!("é{c}b")), "{c:?}");
        }
    }

    #[test]
    fn names_of_people_in_any_script_are_exact() {
        for name in [
            "alice",
            "alice@example.com",
            "New York",
            "Doe, John",
            "O'Neil",
            "Jürgen Groß",
            "Łódź",
            "山田 太郎",
            "می\u{200c}خواهم",
            "क्\u{200d}ष",
            "ops 👩\u{200d}💻 team",
            "spiffe://mesh.example/ns/ai/sa/agent",
            "CORP\\alice",
            "cn=Admins,ou=x",
        ] {
            assert!(is_exact(name), "{name:?}");
        }
    }

    proptest! {
        #[test]
        fn what_is_exact_survives_every_trimming(name in "\\PC{0,12}|[\\u{0}-\\u{ff}]{0,8}") {
            if is_exact(&name) {
                prop_assert_eq!(name.trim(), &name);
                let optional = |c: char| c == ' ' || c == '\t';
                prop_assert_eq!(name.trim_matches(optional), &name);
                prop_assert_eq!(name.trim_matches(|c: char| NOTHINGS.contains(&c) || c.is_control()), &name);
                prop_assert!(!name.contains(['\r', '\n', '\0']));
            }
        }
    }
}
