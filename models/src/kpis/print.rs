//! The canonical form of formulas: one space around operators, no redundant parentheses.

use std::fmt::{self, Formatter, Write};

use super::ast::{Condition, Expr, ExprKind, Test};

/// Binding strength of a kind of expression, from weak to strong.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Level {
    Choice,
    Comparison,
    Sum,
    Product,
    Sign,
    Filtered,
    Primary,
}

fn level(expr: &Expr) -> Level {
    match &expr.value {
        ExprKind::Choose(_) => Level::Choice,
        ExprKind::Compare(..) => Level::Comparison,
        ExprKind::Chain(_, rest) if rest.iter().all(|(operator, _)| operator.is_sum()) => Level::Sum,
        ExprKind::Chain(..) => Level::Product,
        ExprKind::Negate(_) => Level::Sign,
        ExprKind::Filtered(..) => Level::Filtered,
        ExprKind::Number(_)
        | ExprKind::Name(_)
        | ExprKind::Aggregate(..)
        | ExprKind::Call(..)
        | ExprKind::Previous(..)
        | ExprKind::Growth(..) => Level::Primary,
    }
}

impl fmt::Display for Expr {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        match &self.value {
            ExprKind::Number(number) => write!(f, "{number}"),
            ExprKind::Name(name) => f.write_str(name),
            ExprKind::Aggregate(aggregate, field) => write!(f, "{}({})", aggregate.name(), field.value),
            ExprKind::Negate(of) => {
                f.write_char('-')?;
                operand(f, of, Level::Sign)
            }
            ExprKind::Chain(first, rest) => {
                let is_sum = level(self) == Level::Sum;
                let (first_min, rest_min) =
                    if is_sum { (Level::Sum, Level::Product) } else { (Level::Product, Level::Sign) };
                operand(f, first, first_min)?;
                for (operator, right) in rest {
                    write!(f, " {} ", operator.symbol())?;
                    operand(f, right, rest_min)?;
                }
                Ok(())
            }
            ExprKind::Compare(comparison, left, right) => {
                operand(f, left, Level::Sum)?;
                write!(f, " {} ", comparison.symbol())?;
                operand(f, right, Level::Sum)
            }
            ExprKind::Choose(choice) => {
                operand(f, &choice.condition, Level::Comparison)?;
                write!(f, " ? {} : {}", choice.then, choice.otherwise)
            }
            ExprKind::Call(function, arguments) => {
                write!(f, "{}(", function.name())?;
                separated(f, arguments, |f, argument| write!(f, "{argument}"))?;
                f.write_char(')')
            }
            ExprKind::Previous(of, None) => write!(f, "prev({of})"),
            ExprKind::Previous(of, Some(length)) => write!(f, "prev({of}, {length})"),
            ExprKind::Growth(of, None) => write!(f, "growth({of})"),
            ExprKind::Growth(of, Some(length)) => write!(f, "growth({of}, {length})"),
            ExprKind::Filtered(of, conditions) => {
                operand(f, of, Level::Primary)?;
                for (index, one) in conditions.iter().enumerate() {
                    f.write_str(if index == 0 { " filter " } else { " and " })?;
                    condition(f, &one.value)?;
                }
                Ok(())
            }
        }
    }
}

fn operand(f: &mut Formatter<'_>, expr: &Expr, level_min: Level) -> fmt::Result {
    if level(expr) < level_min { write!(f, "({expr})") } else { write!(f, "{expr}") }
}

fn condition(f: &mut Formatter<'_>, condition: &Condition) -> fmt::Result {
    let (before, after) = match condition.test {
        Test::Is => (" = ", ""),
        Test::IsNot => (" != ", ""),
        Test::In => (" in (", ")"),
    };
    write!(f, "{}{before}", condition.dimension)?;
    separated(f, &condition.values, |f, value| quoted(f, &value.value))?;
    f.write_str(after)
}

fn quoted(f: &mut Formatter<'_>, text: &str) -> fmt::Result {
    f.write_char('"')?;
    for c in text.chars() {
        if matches!(c, '"' | '\\') {
            f.write_char('\\')?;
        }
        f.write_char(c)?;
    }
    f.write_char('"')
}

fn separated<T>(
    f: &mut Formatter<'_>,
    items: &[T],
    mut print: impl FnMut(&mut Formatter<'_>, &T) -> fmt::Result,
) -> fmt::Result {
    for (index, item) in items.iter().enumerate() {
        if index > 0 {
            f.write_str(", ")?;
        }
        print(f, item)?;
    }
    Ok(())
}
