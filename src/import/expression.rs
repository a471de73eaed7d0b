//! Numeric expressions over columns: `"{Quantity} * {Price}"`, `"{retail} + {coupon}"`, `"-{Quantity}"`, `"1"`.

use super::number::{Number, NumberFormat};
use super::template::{ColumnRef, Columns, Joined};

#[derive(Clone, Copy, Debug, PartialEq)]
enum Factor {
    Constant(Number),
    Column(ColumnRef),
}

#[derive(Clone, Debug, PartialEq)]
struct Term {
    is_negative: bool,
    factors: Vec<Factor>,
}

/// A sum of products.
#[derive(Clone, Debug, PartialEq)]
pub struct Expression {
    terms: Vec<Term>,
    numbers: NumberFormat,
}

impl Expression {
    pub fn parse(text: &str, columns: &Columns<'_>, numbers: &NumberFormat) -> Result<Expression, String> {
        let bad = || format!("{text:?} is not a number or a column, nor sums and products of them");
        let mut terms = Vec::new();
        let mut rest = text.trim_start();
        loop {
            let (is_negative, after) = match rest.strip_prefix('-') {
                Some(after) => (true, after),
                None => (false, if terms.is_empty() { rest } else { rest.strip_prefix('+').ok_or_else(bad)? }),
            };
            rest = after.trim_start();
            let mut factors = Vec::new();
            loop {
                let (factor, after) = factor(rest, columns)?.ok_or_else(bad)?;
                factors.push(factor);
                rest = after.trim_start();
                match rest.strip_prefix('*') {
                    Some(after) => rest = after.trim_start(),
                    None => break,
                }
            }
            terms.push(Term { is_negative, factors });
            if rest.is_empty() {
                return Ok(Expression { terms, numbers: numbers.clone() });
            }
        }
    }

    /// Evaluates the expression for a row; `None` when every term has an empty column. Error: what is wrong.
    pub fn value(&self, joined: &Joined<'_>) -> Result<Option<Number>, String> {
        let mut sum: Option<Number> = None;
        for term in &self.terms {
            let Some(value) = self.term(term, joined)? else { continue };
            sum = Some(match sum {
                None => value,
                Some(before) => before.add(value).ok_or("a sum has too many digits")?,
            });
        }
        Ok(sum)
    }

    fn term(&self, term: &Term, joined: &Joined<'_>) -> Result<Option<Number>, String> {
        let mut product: Option<Number> = None;
        for factor in &term.factors {
            let value = match factor {
                Factor::Constant(number) => *number,
                Factor::Column(place) => {
                    let text = joined.value(*place);
                    if text.is_empty() {
                        return Ok(None);
                    }
                    Number::parse(&text, &self.numbers).ok_or_else(|| format!("{text:?} is not a number"))?
                }
            };
            product = Some(match product {
                None => value,
                Some(before) => before.multiply(value).ok_or("a product has too many digits")?,
            });
        }
        Ok(product.map(|product| if term.is_negative { product.negate() } else { product }))
    }
}

/// Parses the factor at the start of `text`; returns it and the rest.
fn factor<'a>(text: &'a str, columns: &Columns<'_>) -> Result<Option<(Factor, &'a str)>, String> {
    if let Some(inner) = text.strip_prefix('{') {
        let Some((name, after)) = inner.split_once('}') else { return Ok(None) };
        return Ok(Some((Factor::Column(columns.find(name)?), after)));
    }
    let len = text.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(text.len());
    let (number, after) = text.split_at(len);
    Ok(Number::parse(number, &NumberFormat::default()).map(|number| (Factor::Constant(number), after)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_sums_and_products_are_expressions() {
        let own = ["a".to_owned(), "b".to_owned()];
        let columns = Columns::of(&own);
        for good in ["{a}", "-{a} * {b}", "{a} + {b} - 0.5*{1}", "1"] {
            assert!(Expression::parse(good, &columns, &NumberFormat::default()).is_ok(), "{good}");
        }
        for bad in ["", "{a", "{c}", "{a} {b}", "{a} *", "({a})", "a"] {
            assert!(Expression::parse(bad, &columns, &NumberFormat::default()).is_err(), "{bad}");
        }
    }
}
