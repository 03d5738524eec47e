//! Names that servers, and the frameworks below them, take for something else than a field or a parameter.

/// Longest name that is looked at, in letters and digits.
const LONGEST: usize = 32;

/// True if servers take a credential from a member or parameter of this name: `access_token` (RFC 6750, sections 2.2 and
/// 2.3), `api_token` (Laravel), `api_key`, `session_token` and `script_token` (DreamFactory, from the query and from the
/// root of a JSON body), the names of their headers, PHP's own variables of basic authentication, and the parts of
/// a signed AWS request. Case, and what is neither a letter nor a digit, does not count: PHP reads `api.key` and `api key`
/// as `api_key`, and `api_key[x]` as a list of that name.
#[must_use]
pub fn is_credential(name: &str) -> bool {
    let base = match name.split_once('[') {
        Some((base, rest)) if !base.is_empty() && rest.contains(']') => base,
        _ => name,
    };
    let mut squashed = [0_u8; LONGEST];
    let mut length = 0;
    for byte in base.bytes().filter(u8::is_ascii_alphanumeric) {
        let Some(place) = squashed.get_mut(length) else { return false };
        *place = byte.to_ascii_lowercase();
        length += 1;
    }
    let whole = squashed.get(..length).unwrap_or_default();
    let plain = whole.strip_prefix(b"http").unwrap_or(whole);
    let plain = plain.strip_prefix(b"x").unwrap_or(plain);
    matches!(
        plain,
        b"accesstoken"
            | b"apikey"
            | b"apitoken"
            | b"authtoken"
            | b"bearertoken"
            | b"sessiontoken"
            | b"scripttoken"
            | b"dreamfactoryapikey"
            | b"dreamfactorysessiontoken"
            | b"dreamfactoryscripttoken"
            | b"dsactor"
            | b"phpauthuser"
            | b"phpauthpw"
            | b"phpauthdigest"
            | b"amzsignature"
            | b"amzcredential"
            | b"amzsecuritytoken"
            | b"awsaccesskeyid"
    ) || whole == b"xauthorization"
        || whole == b"httpauthorization"
}

/// The sentence for a write of a field with such a name.
pub(in crate::dialect) const CREDENTIAL: &str = "has the name of a credential, which the data API or its framework may read from any part of a request: it cannot be written";

/// True if PHP gives a parameter to the application under the name that it was sent with: leading blanks are dropped, a
/// blank, a dot and a lone bracket become underscores, and what stands in brackets makes a list (`php_register_variable_ex`).
#[must_use]
pub fn php_keeps(name: &str) -> bool {
    !name.is_empty() && !name.contains([' ', '.', '[', '\0'])
}

/// True if frameworks leave a string as it is: Laravel, below DreamFactory, trims every string of a query and a JSON body
/// (`TrimStrings`: white space, and since its version 11 whatever is not seen, `Str::INVISIBLE_CHARACTERS`) and makes null of
/// what is empty (`ConvertEmptyStringsToNull`).
#[must_use]
pub(in crate::dialect) fn arrives(text: &str) -> bool {
    let trimmed = |c: char| {
        c.is_whitespace()
            || matches!(
                c,
                '\0' | '\u{ad}' | '\u{34f}' | '\u{61c}' | '\u{115f}' | '\u{1160}' | '\u{17b4}' | '\u{17b5}' | '\u{180e}'
                    | '\u{200b}'..='\u{200f}' | '\u{2060}'..='\u{206f}' | '\u{2800}' | '\u{3164}' | '\u{feff}'
                    | '\u{ffa0}' | '\u{1d159}' | '\u{1d173}'..='\u{1d17a}' | '\u{e0020}'
            )
    };
    !text.is_empty() && !text.starts_with(trimmed) && !text.ends_with(trimmed)
}

/// True for the parameter by which libraries get around caches: `_` with a moment in milliseconds (jQuery and others).
pub(in crate::dialect) fn is_cache_buster(name: &str, value: &str) -> bool {
    name == "_" && value.len() <= 20 && value.bytes().all(|byte| byte.is_ascii_digit())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_credential_is_known_by_its_letters_and_digits() {
        for name in [
            "api_key",
            "API-Key",
            "apiKey",
            "x-api-key",
            "X_DREAMFACTORY_API_KEY",
            "HTTP_X_DREAMFACTORY_SESSION_TOKEN",
            "x-dreamfactory-script-token",
            "session.token",
            " session_token",
            "session token",
            "access_token",
            "api_key[0]",
            "api[key",
            "_auth_token",
            "ds_actor",
            "PHP_AUTH_USER",
            "X-Amz-Signature",
        ] {
            assert!(is_credential(name), "{name}");
        }
        for name in [
            "",
            "id",
            "key",
            "token",
            "token_count",
            "api_key_id",
            "api_keys",
            "session",
            "authorization",
            "x",
            "http",
            "params[api_key]",
            "a_name_of_many_more_letters_than_any_of_them_has_api_key",
        ] {
            assert!(!is_credential(name), "{name}");
        }
    }

    #[test]
    fn frameworks_trim_strings_and_take_empty_ones_for_null() {
        for text in ["a", "a b", "a\u{200b}b", "0", "\u{301}"] {
            assert!(arrives(text), "{text:?}");
        }
        for text in
            ["", " ", " a", "a ", "a\n", "\ta", "a\u{a0}", "\u{200b}a", "a\u{feff}", "\u{200e}a", "a\0", "\u{3000}a"]
        {
            assert!(!arrives(text), "{text:?}");
        }
        // `Str::INVISIBLE_CHARACTERS` of Laravel 13.
        let ranges = [
            (0x9, 0x9),
            (0x20, 0x20),
            (0xa0, 0xa0),
            (0xad, 0xad),
            (0x34f, 0x34f),
            (0x61c, 0x61c),
            (0x115f, 0x1160),
            (0x17b4, 0x17b5),
            (0x180e, 0x180e),
            (0x2000, 0x200f),
            (0x202f, 0x202f),
            (0x205f, 0x2065),
            (0x206a, 0x206f),
            (0x3000, 0x3000),
            (0x2800, 0x2800),
            (0x3164, 0x3164),
            (0xfeff, 0xfeff),
            (0xffa0, 0xffa0),
            (0x1d159, 0x1d159),
            (0x1d173, 0x1d17a),
            (0xe0020, 0xe0020),
        ];
        for c in ranges.into_iter().flat_map(|(first, last)| first..=last).filter_map(char::from_u32) {
            assert!(!arrives(&format!("a{c}")) && !arrives(&format!("{c}a")) && arrives(&format!("a{c}a")), "{c:?}");
        }
    }

    #[test]
    fn php_changes_names_with_blanks_dots_and_brackets() {
        for (name, kept) in [
            ("a", true),
            ("a_b", true),
            ("a-b", true),
            (":a", true),
            ("a.b", false),
            ("a b", false),
            (" a", false),
            ("a[b]", false),
            ("a[b", false),
            ("", false),
        ] {
            assert_eq!(php_keeps(name), kept, "{name}");
        }
    }
}
