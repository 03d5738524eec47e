//! Template × principal → [`Resolved`]: placeholders become typed literals, or the request is denied.

use super::{Operand, PlaceholderSource, Predicate, Resolved, Template, display::placeholder, parse::parse_literal};
use crate::{
    Name,
    bundle::Key,
    code::{Code, Denial},
    principal::{Attribute, Principal},
    value::{FieldType, Literal},
};

/// What placeholders are filled from.
#[derive(Clone, Copy, Debug)]
pub struct Context<'a> {
    /// `{user.NAME}`, `{tenant}`
    pub principal: &'a Principal,
    /// `{role.NAME}`: the lookups of the deciding role, sorted by name.
    pub lookups: &'a [(Name, Vec<Name>)],
    /// `{agent.name}`
    pub agent: Option<&'a Name>,
    /// `{key.NAME}`
    pub key: Option<&'a Key>,
    /// `{now}`, Unix seconds.
    pub now_seconds: i64,
}

/// The values that a placeholder stands for.
enum Found {
    One(Name),
    Many(Vec<Name>),
}

impl Context<'_> {
    fn find(&self, source: PlaceholderSource, name: &str, field_type: FieldType) -> Option<Found> {
        let named = |list: &[(Name, Vec<Name>)]| {
            let at = list.binary_search_by(|(have, _)| have.as_ref().cmp(name)).ok()?;
            match list.get(at)?.1.as_slice() {
                [one] => Some(Found::One(one.clone())),
                many => Some(Found::Many(many.to_vec())),
            }
        };
        match source {
            PlaceholderSource::FromUser if name == "name" => self.principal.user.clone().map(Found::One),
            PlaceholderSource::FromUser => {
                let (_, value) = self.principal.attributes.iter().find(|(have, _)| have.as_ref() == name)?;
                Some(match value {
                    Attribute::One(one) => Found::One(one.clone()),
                    Attribute::Many(many) => Found::Many(many.clone()),
                })
            }
            PlaceholderSource::FromTenant => self.principal.tenant.clone().map(Found::One),
            PlaceholderSource::FromRole => named(self.lookups),
            PlaceholderSource::FromAgent if name == "name" => self.agent.cloned().map(Found::One),
            PlaceholderSource::FromKey => {
                let key = self.key?;
                named(&key.attributes).or_else(|| (name == "name").then(|| Found::One(key.name.clone())))
            }
            PlaceholderSource::FromNow => {
                let now = rfc3339(self.now_seconds)?;
                let text = if field_type == FieldType::Date { now.get(..10)? } else { &now };
                Some(Found::One(Name::from(text)))
            }
            PlaceholderSource::FromAgent | PlaceholderSource::Unspecified => None,
        }
    }

    /// Every value of an operand; a list attribute may have several or none.
    fn values(&self, operand: &Operand, field_type: FieldType) -> Result<(Vec<Literal>, bool), Denial> {
        let (source, name) = match operand {
            Operand::Literal(literal) => return Ok((vec![literal.clone()], false)),
            Operand::Placeholder { source, name } => (*source, name),
        };
        let typed = |text: &Name| {
            // Missing is missing: an empty text never stands for a value.
            if text.is_empty() {
                return Err(missing(source, name));
            }
            parse_literal(text, field_type).ok_or_else(|| invalid(source, name, "is not of the type of its field"))
        };
        match self.find(source, name, field_type) {
            None => Err(missing(source, name)),
            Some(Found::One(text)) => Ok((vec![typed(&text)?], false)),
            Some(Found::Many(texts)) => Ok((texts.iter().map(typed).collect::<Result<_, _>>()?, true)),
        }
    }

    /// The one value of an operand.
    ///
    /// # Errors
    /// `attribute_missing`; `attribute_invalid` if the value is a list or not of the type.
    pub fn literal(&self, operand: &Operand, field_type: FieldType) -> Result<Literal, Denial> {
        if let Operand::Literal(literal) = operand {
            return Ok(literal.clone());
        }
        let (mut values, list) = self.values(operand, field_type)?;
        match (values.pop(), list) {
            (Some(value), false) => Ok(value),
            _ => match operand {
                Operand::Placeholder { source, name } => {
                    Err(invalid(*source, name, "is a list where one value is needed"))
                }
                Operand::Literal(_) => {
                    Err(Denial::new(Code::AttributeInvalid, "A value of the policy cannot be used."))
                }
            },
        }
    }

    /// The template with every placeholder filled. A test over an empty list is FALSE.
    ///
    /// # Errors
    /// `attribute_missing` or `attribute_invalid`: a row filter that cannot be filled in never lets rows through.
    pub fn resolve(&self, template: &Template) -> Result<Resolved, Denial> {
        let all = |items: &[Template]| items.iter().map(|item| self.resolve(item)).collect::<Result<Vec<_>, _>>();
        Ok(match template {
            Predicate::Constant(value) => Predicate::Constant(*value),
            Predicate::And(items) => Predicate::And(all(items)?),
            Predicate::Or(items) => Predicate::Or(all(items)?),
            Predicate::Not(inner) => Predicate::Not(Box::new(self.resolve(inner)?)),
            Predicate::Compare { field, field_type, op, value } => Predicate::Compare {
                field: field.clone(),
                field_type: *field_type,
                op: *op,
                value: self.literal(value, *field_type)?,
            },
            Predicate::In { field, field_type, negated, values } => {
                let mut literals = Vec::with_capacity(values.len());
                let mut empty = values.is_empty();
                for value in values {
                    let (found, _) = self.values(value, *field_type)?;
                    empty |= found.is_empty();
                    literals.extend(found);
                }
                if empty {
                    Predicate::Constant(false)
                } else {
                    Predicate::In { field: field.clone(), field_type: *field_type, negated: *negated, values: literals }
                }
            }
            Predicate::Like { field, negated, pattern } => {
                Predicate::Like { field: field.clone(), negated: *negated, pattern: pattern.clone() }
            }
            Predicate::IsNull { field, negated } => Predicate::IsNull { field: field.clone(), negated: *negated },
        })
    }
}

fn missing(source: PlaceholderSource, name: &str) -> Denial {
    let text = placeholder(source, name);
    Denial::new(Code::AttributeMissing, format!("A rule of the role needs {text}, which this caller does not have."))
}

fn invalid(source: PlaceholderSource, name: &str, why: &str) -> Denial {
    let text = placeholder(source, name);
    Denial::new(Code::AttributeInvalid, format!("A rule of the role needs {text}, but this caller's value {why}."))
}

/// Unix seconds as an RFC 3339 timestamp in UTC; `None` beyond the years 1 to 9999.
#[must_use]
pub fn rfc3339(seconds: i64) -> Option<String> {
    let (days, of_day) = (seconds.div_euclid(86_400), seconds.rem_euclid(86_400));
    // Hinnant's civil_from_days: years start in March, so that the leap day is a year's last.
    let shifted = days.checked_add(719_468)?;
    let (era, of_era) = (shifted.div_euclid(146_097), shifted.rem_euclid(146_097));
    let year_of_era = (of_era - of_era / 1_460 + of_era / 36_524 - of_era / 146_096) / 365;
    let of_year = of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let month_index = (5 * of_year + 2) / 153;
    let day = of_year - (153 * month_index + 2) / 5 + 1;
    let month = if month_index < 10 { month_index + 3 } else { month_index - 9 };
    let year = year_of_era + era * 400 + i64::from(month <= 2);
    (1..=9999).contains(&year).then(|| {
        let (hour, minute, second) = (of_day / 3600, of_day / 60 % 60, of_day % 60);
        format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}Z")
    })
}

#[cfg(test)]
mod tests {
    use super::{
        super::parse::{parse, parse_rfc3339},
        *,
    };
    use proptest::prelude::*;

    fn types(field: &str) -> Option<FieldType> {
        Some(match field {
            "region" => FieldType::String,
            "id" => FieldType::Integer,
            "score" => FieldType::Number,
            "open" => FieldType::Boolean,
            "at" => FieldType::Timestamp,
            "day" => FieldType::Date,
            _ => return None,
        })
    }
    fn resolved(text: &str, attributes: &[(&str, &[&str])]) -> Result<String, Code> {
        let attribute = |values: &[&str]| match values {
            [one] => Attribute::One(Name::from(*one)),
            many => Attribute::Many(many.iter().map(|value| Name::from(*value)).collect()),
        };
        let principal = Principal {
            user: Some("eve@example.com".into()),
            tenant: Some("acme".into()),
            attributes: attributes.iter().map(|(name, values)| (Name::from(*name), attribute(values))).collect(),
            ..Principal::default()
        };
        let lookups = [(Name::from("zone"), vec![Name::from("west"), Name::from("north")])];
        let agent = Name::from("bot");
        let context = Context {
            principal: &principal,
            lookups: &lookups,
            agent: Some(&agent),
            key: None,
            now_seconds: 1_767_225_600,
        };
        context.resolve(&parse(text, &types).unwrap()).map(|p| p.to_string()).map_err(|denial| denial.code)
    }

    #[test]
    fn placeholders_become_literals_of_their_fields_type() {
        let all: &[(&str, &[&str])] = &[("id", &["42"]), ("s", &["-1.5e3"]), ("o", &["true"]), ("n", &["a' OR 1=1"])];
        for (text, expected) in [
            ("region = {user.name} AND region = {tenant}", "region = 'eve@example.com' AND region = 'acme'"),
            ("id = {user.id}", "id = 42"),
            ("score > {user.s}", "score > -1.5e3"),
            ("open = {user.o}", "open = true"),
            ("region = {user.n}", "region = 'a'' OR 1=1'"),
            ("region IN ({role.zone}, 'x')", "region IN ('west', 'north', 'x')"),
            ("region = {agent.name}", "region = 'bot'"),
            ("at < {now} AND day = {now}", "at < '2026-01-01T00:00:00Z' AND day = '2026-01-01'"),
        ] {
            assert_eq!(resolved(text, all).as_deref(), Ok(expected));
        }
    }

    #[test]
    fn what_is_missing_denies() {
        for text in ["region = {user.none}", "region = {role.none}", "region = {key.name}", "region = {agent.version}"]
        {
            assert_eq!(resolved(text, &[]), Err(Code::AttributeMissing), "{text}");
        }
        assert_eq!(resolved("region = {user.e}", &[("e", &[""])]), Err(Code::AttributeMissing));
        assert_eq!(resolved("region = 'x' OR NOT region = {user.none}", &[]), Err(Code::AttributeMissing));
    }

    #[test]
    fn what_is_not_of_the_fields_type_denies() {
        for (text, value) in [
            ("id = {user.a}", "42 "),
            ("id = {user.a}", "+42"),
            ("id = {user.a}", "4.0"),
            ("id = {user.a}", "99999999999999999999"),
            ("score = {user.a}", "NaN"),
            ("score = {user.a}", "inf"),
            ("score = {user.a}", "1e999"),
            ("open = {user.a}", "TRUE"),
            ("at = {user.a}", "yesterday"),
            ("day = {user.a}", "2026-02-30"),
        ] {
            assert_eq!(resolved(text, &[("a", &[value])]), Err(Code::AttributeInvalid), "{text} {value}");
        }
    }

    #[test]
    fn a_list_needs_in_and_an_empty_list_is_false_also_when_negated() {
        assert_eq!(resolved("region = {user.r}", &[("r", &["a", "b"])]), Err(Code::AttributeInvalid));
        assert_eq!(resolved("region = {user.r}", &[("r", &[])]), Err(Code::AttributeInvalid));
        assert_eq!(resolved("region IN ({user.r})", &[("r", &["a", "b"])]).as_deref(), Ok("region IN ('a', 'b')"));
        assert_eq!(resolved("region IN ({user.r})", &[("r", &[])]).as_deref(), Ok("FALSE"));
        assert_eq!(resolved("region NOT IN ({user.r}, 'x')", &[("r", &[])]).as_deref(), Ok("FALSE"));
    }

    proptest! {
        #[test]
        fn timestamps_read_back_to_the_second(seconds in -60_000_000_000i64..250_000_000_000) {
            prop_assert_eq!(parse_rfc3339(&rfc3339(seconds).unwrap()), Some(seconds));
        }
    }
}
