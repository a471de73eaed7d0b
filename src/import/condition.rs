//! Conditions that select the rows of a feed.

use std::cmp::Ordering;

use super::mapping::ConditionSpec;
use super::number::{Number, NumberFormat};
use super::template::{Columns, Joined, Template};

#[derive(Clone, Debug)]
pub struct Condition {
    value: Template,
    spec: ConditionSpec,
    numbers: NumberFormat,
}

impl Condition {
    pub fn parse(spec: &ConditionSpec, columns: &Columns<'_>, numbers: &NumberFormat) -> Result<Condition, String> {
        Ok(Condition { value: Template::parse(&spec.value, columns)?, spec: spec.clone(), numbers: numbers.clone() })
    }

    /// Whether an incomplete row is excluded by the columns it has.
    pub fn leaves_out(&self, joined: &Joined<'_>) -> bool {
        self.value.is_within(joined.row.len()) && matches!(self.holds(joined), Ok(false))
    }

    /// Error: the condition compares numbers, and the value is not one.
    pub fn holds(&self, joined: &Joined<'_>) -> Result<bool, String> {
        let value = self.value.fill(joined);
        let spec = &self.spec;
        let says = |given: &Option<String>, test: fn(&str, &str) -> bool| {
            given.as_ref().is_none_or(|given| test(&value, given))
        };
        if !(says(&spec.is, |value, given| value == given)
            && says(&spec.is_not, |value, given| value != given)
            && says(&spec.starts_with, |value, given| value.starts_with(given))
            && says(&spec.starts_not_with, |value, given| !value.starts_with(given)))
        {
            return Ok(false);
        }
        if spec.above.is_none() && spec.below.is_none() {
            return Ok(true);
        }
        let number = Number::parse(&value, &self.numbers).ok_or_else(|| format!("{value:?} is not a number"))?;
        let is = |given: Option<i64>, order| given.is_none_or(|given| number.compare(given) == order);
        Ok(is(spec.above, Ordering::Greater) && is(spec.below, Ordering::Less))
    }
}
