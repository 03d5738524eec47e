//! Decimal numbers exactly as they were written: compared without rounding, sent on byte for byte.
//!
//! [`Decimal`] and its text are for every crate. What databases make of it ([`Decimal::is_double`], [`Decimal::places`],
//! [`Decimal::plain`]) is meant for the engine alone.

use crate::Name;
use std::{
    cmp::Ordering,
    fmt::{self, Display, Formatter},
};

/// Longest text of a number, in bytes. Every double has a shorter one; so has every number that a database keeps.
pub const MAX_LENGTH: usize = 1024;

/// Exponents beyond this are not read: no data API has such numbers, and sums of exponents stay far from any overflow.
const MAX_EXPONENT: i64 = 99_999;

/// A decimal number in JSON's grammar (RFC 8259 section 6), kept as text.
///
/// Equality and order are those of the numbers, exactly: `1.0`, `1` and `10e-1` are equal, and so are `0` and `-0`.
#[derive(Clone)]
pub struct Decimal(Name);

impl Decimal {
    /// Reads a number; `None` if the text is none in JSON's grammar, is longer than [`MAX_LENGTH`], or is too large for a
    /// double, which most servers read as infinite. Leading zeros are dropped.
    #[must_use]
    pub fn parse(text: &str) -> Option<Decimal> {
        if text.len() > MAX_LENGTH {
            return None;
        }
        let parts = Parts::read(text)?;
        if parts.order().is_some_and(|order| order >= 308) && !text.parse::<f64>().is_ok_and(f64::is_finite) {
            return None;
        }
        let zeros = parts.whole.iter().take_while(|digit| **digit == b'0').count();
        let zeros = zeros.min(parts.whole.len().saturating_sub(1));
        if zeros == 0 {
            return Some(Decimal(text.into()));
        }
        let rest = text.strip_prefix('-').unwrap_or(text).get(zeros..)?;
        Some(Decimal(if parts.negative { ["-", rest].concat().into() } else { rest.into() }))
    }

    /// The shortest number that reads as this double; `None` if it is not finite.
    #[must_use]
    pub fn from_f64(value: f64) -> Option<Decimal> {
        // The debug form is JSON's grammar and the shortest that reads back.
        value.is_finite().then(|| Decimal(format!("{value:?}").into()))
    }

    /// An integer.
    #[must_use]
    pub fn from_i64(value: i64) -> Decimal {
        Decimal(value.to_string().into())
    }

    /// The number as it was written.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The same number as an integer, if it is one of 64 bits: `1.0` and `10e-1` are 1.
    #[must_use]
    pub fn as_i64(&self) -> Option<i64> {
        let parts = self.parts();
        let Some(order) = parts.order() else { return Some(0) };
        let (whole, scale) = self.places();
        if scale > 0 || whole > 19 {
            return None;
        }
        let mut value = 0_i64;
        let mut digits = parts.digits();
        for _ in 0..=order {
            let digit = i64::from(digits.next().unwrap_or(b'0') - b'0');
            // Downwards, because the smallest integer has no positive counterpart.
            value = value.checked_mul(10)?.checked_sub(digit)?;
        }
        if parts.negative { Some(value) } else { value.checked_neg() }
    }

    /// The nearest double.
    #[must_use]
    pub fn to_f64(&self) -> f64 {
        // `parse` let no text through that is not a finite double.
        self.0.parse().unwrap_or(f64::NAN)
    }

    /// True if a server that keeps doubles gives this very number back: the shortest text of the nearest double denotes it.
    /// Holds for whatever was printed from a double, and for every number of at most 15 digits within the range.
    #[must_use]
    pub fn is_double(&self) -> bool {
        Decimal::from_f64(self.to_f64()).is_some_and(|double| double == *self)
    }

    /// How many digits the number needs before and after its decimal point: `-12.50` needs 2 and 1, `1e3` needs 4 and 0.
    #[must_use]
    pub fn places(&self) -> (u32, u32) {
        let parts = self.parts();
        let Some(order) = parts.order() else { return (0, 0) };
        let significant = parts.digits().enumerate().filter(|(_, digit)| *digit != b'0').last().map_or(0, |(at, _)| at);
        let last = order - i64::try_from(significant).unwrap_or(i64::MAX);
        let clamp = |places: i64| u32::try_from(places.max(0)).unwrap_or(u32::MAX);
        (clamp(order + 1), clamp(-last))
    }

    /// The same number without an exponent; `None` if that takes more than `longest` digits. A number that was written
    /// without one stays as it is.
    #[must_use]
    pub fn plain(&self, longest: u32) -> Option<String> {
        let (whole, scale) = self.places();
        if whole.checked_add(scale)? > longest {
            return None;
        }
        let parts = self.parts();
        if !self.0.contains(['e', 'E']) {
            let digits = parts.whole.len() + parts.fraction.len();
            return (digits <= usize::try_from(longest).unwrap_or(usize::MAX)).then(|| self.0.to_string());
        }
        let Some(order) = parts.order() else { return Some("0".to_owned()) };
        let mut out = String::from(if parts.negative { "-" } else { "" });
        let mut digits = parts.digits().map(char::from);
        if whole == 0 {
            out.push('0');
        }
        for _ in 0..whole {
            out.push(digits.next().unwrap_or('0'));
        }
        for at in 0..i64::from(scale) {
            if at == 0 {
                out.push('.');
            }
            // Zeros between the point and the first digit.
            out.push(if at < -1 - order { '0' } else { digits.next().unwrap_or('0') });
        }
        Some(out)
    }

    /// Compares with an integer, exactly.
    #[must_use]
    pub fn cmp_integer(&self, integer: i64) -> Ordering {
        let mut buffer = [b'0'; 20];
        let mut rest = integer.unsigned_abs();
        let mut length = 0_usize;
        for place in buffer.iter_mut().rev() {
            if rest == 0 {
                break;
            }
            *place = b'0' + u8::try_from(rest % 10).unwrap_or(0);
            rest /= 10;
            length += 1;
        }
        let whole = buffer.get(buffer.len() - length..).unwrap_or_default();
        self.parts().cmp(&Parts { negative: integer < 0, whole, fraction: &[], exponent: 0 })
    }

    fn parts(&self) -> Parts<'_> {
        // What is inside was read once already.
        Parts::read(&self.0).unwrap_or(Parts { negative: false, whole: &[], fraction: &[], exponent: 0 })
    }
}

impl Display for Decimal {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for Decimal {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl From<i64> for Decimal {
    fn from(value: i64) -> Decimal {
        Decimal(value.to_string().into())
    }
}

impl PartialEq for Decimal {
    fn eq(&self, other: &Decimal) -> bool {
        self.cmp(other).is_eq()
    }
}

impl Eq for Decimal {}

impl PartialOrd for Decimal {
    fn partial_cmp(&self, other: &Decimal) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Decimal {
    fn cmp(&self, other: &Decimal) -> Ordering {
        self.parts().cmp(&other.parts())
    }
}

/// `-?whole[.fraction][e exponent]`
struct Parts<'a> {
    negative: bool,
    whole: &'a [u8],
    fraction: &'a [u8],
    exponent: i64,
}

impl<'a> Parts<'a> {
    fn read(text: &'a str) -> Option<Parts<'a>> {
        let unsigned = text.strip_prefix('-').unwrap_or(text);
        let (mantissa, exponent) = match unsigned.split_once(['e', 'E']) {
            Some((mantissa, exponent)) => (mantissa, Some(exponent)),
            None => (unsigned, None),
        };
        let (whole, fraction) = match mantissa.split_once('.') {
            Some((whole, fraction)) => (whole, Some(fraction)),
            None => (mantissa, None),
        };
        let exponent = match exponent {
            None => 0,
            Some(text) => {
                let unsigned = text.strip_prefix(['-', '+']).unwrap_or(text);
                if !digits(unsigned) {
                    return None;
                }
                let value = unsigned.parse::<i64>().ok().filter(|value| *value <= MAX_EXPONENT)?;
                if text.starts_with('-') { -value } else { value }
            }
        };
        (digits(whole) && fraction.is_none_or(digits)).then(|| Parts {
            negative: unsigned.len() != text.len(),
            whole: whole.as_bytes(),
            fraction: fraction.unwrap_or_default().as_bytes(),
            exponent,
        })
    }

    /// The digits from the first that is not zero; none for zero.
    fn digits(&self) -> impl Iterator<Item = u8> + use<'a> {
        self.whole.iter().chain(self.fraction).copied().skip_while(|digit| *digit == b'0')
    }

    /// The power of ten of the first digit that is not zero; `None` for zero.
    fn order(&self) -> Option<i64> {
        let zeros = self.whole.iter().chain(self.fraction).position(|digit| *digit != b'0')?;
        // Texts have at most a thousand digits.
        let place = |count: usize| i64::try_from(count).unwrap_or(i64::MAX);
        Some(place(self.whole.len()) - place(zeros) - 1 + self.exponent)
    }

    fn cmp(&self, other: &Parts<'_>) -> Ordering {
        let size = |parts: &Parts<'_>| match parts.order() {
            None => 0,
            Some(_) if parts.negative => -1,
            Some(_) => 1,
        };
        let sign = size(self);
        sign.cmp(&size(other)).then_with(|| {
            let larger = self.order().cmp(&other.order()).then_with(|| {
                let (mut left, mut right) = (self.digits(), other.digits());
                loop {
                    match (left.next(), right.next()) {
                        (None, None) => return Ordering::Equal,
                        (one, two) => match one.unwrap_or(b'0').cmp(&two.unwrap_or(b'0')) {
                            Ordering::Equal => {}
                            unequal => return unequal,
                        },
                    }
                }
            });
            if sign < 0 { larger.reverse() } else { larger }
        })
    }
}

fn digits(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit())
}

#[cfg(test)]
mod tests {
    use super::*;
    use num_bigint::BigInt;
    use proptest::prelude::*;

    fn number(text: &str) -> Decimal {
        Decimal::parse(text).unwrap_or_else(|| panic!("{text}"))
    }

    /// Texts of numbers that lie close together, differ in their spelling only, or are at a limit of some type.
    fn texts() -> impl Strategy<Value = String> {
        let wild = "-?(0|[1-9][0-9]{0,30})(\\.[0-9]{1,40})?([eE][-+]?[0-9]{1,2})?";
        let known = prop::sample::select(vec![
            "0",
            "-0",
            "0.0",
            "-0e5",
            "1",
            "1.0",
            "10e-1",
            "0.1e1",
            "100E-2",
            "9007199254740992",
            "9007199254740993",
            "9223372036854775807",
            "9223372036854775808",
            "-9223372036854775808",
            "-9223372036854775809",
            "18446744073709551616",
            "123456789012345678901234567890",
            "1e-400",
            "1E5",
            "100000",
            "1e308",
            "-1e308",
            "0.1",
            "0.10000000000000000555111512312578270211815",
            "0.30000000000000004",
            "2.5",
            "-2.5",
            "-3",
        ]);
        prop_oneof![wild, known.prop_map(str::to_owned)]
    }

    /// The obvious counterpart: both numbers as whole multiples of 10^-600.
    fn reference(text: &str) -> BigInt {
        let (mantissa, exponent) = text.split_once(['e', 'E']).unwrap_or((text, "0"));
        let (whole, fraction) = mantissa.split_once('.').unwrap_or((mantissa, ""));
        let shift: i64 = exponent.trim_start_matches('+').parse().unwrap();
        let power = u32::try_from(600 + shift - fraction.len() as i64).unwrap();
        [whole, fraction].concat().parse::<BigInt>().unwrap() * BigInt::from(10).pow(power)
    }

    proptest! {
        #![proptest_config(ProptestConfig { cases: 2000, failure_persistence: None, ..ProptestConfig::default() })]

        #[test]
        fn order_is_that_of_exact_arithmetic(left in texts(), right in texts()) {
            prop_assert_eq!(number(&left).cmp(&number(&right)), reference(&left).cmp(&reference(&right)));
            let read = number(&left);
            prop_assert_eq!(read.as_str(), left);
        }

        #[test]
        fn integers_compare_exactly(left in texts(), right in any::<i64>()) {
            let right_exact = reference(&right.to_string());
            prop_assert_eq!(number(&left).cmp_integer(right), reference(&left).cmp(&right_exact));
            prop_assert_eq!(number(&right.to_string()).cmp_integer(right), Ordering::Equal);
            prop_assert_eq!(number(&format!("{right}.0e0")).as_i64(), Some(right));
        }

        #[test]
        fn an_integer_is_found_where_there_is_one(text in texts()) {
            let unit = BigInt::from(10).pow(600);
            let exact = reference(&text);
            let whole: Option<i64> = if (&exact % &unit) == BigInt::ZERO { (exact / unit).try_into().ok() } else { None };
            prop_assert_eq!(number(&text).as_i64(), whole, "{}", text);
        }

        #[test]
        fn the_plain_form_is_the_same_number_within_its_places(text in texts()) {
            let decimal = number(&text);
            if let Some(plain) = decimal.plain(2000) {
                prop_assert_eq!(reference(&plain), reference(&text), "{} {}", &plain, &text);
                prop_assert!(!plain.contains(['e', 'E']));
            }
            let (whole, scale) = decimal.places();
            prop_assert_eq!(&reference(&text) % BigInt::from(10).pow(600 - scale), BigInt::ZERO);
            prop_assert!(reference(&text).magnitude() < BigInt::from(10).pow(600 + whole).magnitude());
        }

        #[test]
        fn a_printed_double_is_one(value in any::<f64>()) {
            let Some(decimal) = Decimal::from_f64(value) else { return Ok(()) };
            prop_assert!(decimal.is_double());
            prop_assert_eq!(decimal.to_f64(), value);
            let scientific = format!("{value:e}");
            prop_assert!(number(&scientific).is_double());
        }
    }

    #[test]
    fn what_a_double_does_not_give_back_is_told() {
        for text in ["0.1", "0.10", "1E5", "-0", "9007199254740992", "0.30000000000000004", "123456789012345", "1e308"]
        {
            assert!(number(text).is_double(), "{text}");
        }
        for text in [
            "9007199254740993",
            "18446744073709551616",
            "123456789012345678901234567890",
            "1e-400",
            "0.1000000000000000055511151231257827021181",
            "0.99999999999999999999",
        ] {
            assert!(!number(text).is_double(), "{text}");
        }
    }

    #[test]
    fn only_numbers_of_the_grammar_within_the_limits_are_read() {
        for text in
            ["", "-", "+1", ".5", "5.", "1e", "1e+", "0x1", "NaN", "Infinity", "1e999", "-1e309", "1 ", "1e1.5", "--1"]
        {
            assert!(Decimal::parse(text).is_none(), "{text}");
        }
        assert!(Decimal::parse(&"1".repeat(MAX_LENGTH + 1)).is_none());
        assert!(Decimal::parse("1e-100000").is_none());
        assert_eq!(number("-007.50").as_str(), "-7.50");
        assert_eq!(number("000").as_str(), "0");
    }
}
