//! A compiled formula: the metrics to query, and the computation on the answers.

use super::ast::{Comparison, Function, Operator};
use super::filter::Filter;
use super::number::{Absent, Number};
use super::shift::Shift;
use super::unit::Unit;

/// A metric to query, for each bucket.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Question {
    /// The name in the catalog.
    pub metric: &'static str,
    pub filter: Filter,
    /// How far before the bucket.
    pub shift: Shift,
}

/// A formula with resolved names and checked units.
#[derive(Clone, Debug)]
pub struct Plan {
    pub(super) unit: Unit,
    pub(super) questions: Vec<Question>,
    pub(super) operations: usize,
    pub(super) term: Term,
}

impl Plan {
    /// The unit of the result.
    pub fn unit(&self) -> Unit {
        self.unit
    }

    /// The distinct metrics to query.
    pub fn questions(&self) -> &[Question] {
        &self.questions
    }

    /// The number of its literals, names and operations, including those of the KPIs it references: at most
    /// [`OPERATIONS_MAX`](super::OPERATIONS_MAX).
    pub fn operations(&self) -> usize {
        self.operations
    }

    /// The result for one bucket. `answers` are those to its [`Plan::questions`], in their order: money in currency
    /// units, durations in seconds; a missing one is `None`.
    pub fn evaluate(&self, answers: &[Option<Number>]) -> Result<Number, Absent> {
        self.term.value(answers)
    }
}

/// A node of a compiled formula. A missing value propagates, with its reason.
#[derive(Clone, Debug)]
pub(super) enum Term {
    Constant(Number),
    /// By the index of the question.
    Answer(usize),
    Negate(Box<Term>),
    Chain(Box<Term>, Vec<(Operator, Term)>),
    Choose(Box<Choice>),
    Call(Function, Box<Term>, Vec<Term>),
    /// The current and the earlier value.
    Growth(Box<(Term, Term)>),
}

#[derive(Clone, Debug)]
pub(super) struct Choice {
    pub(super) comparison: Comparison,
    pub(super) sides: (Term, Term),
    /// The results if it holds and if not.
    pub(super) results: (Term, Term),
}

impl Term {
    fn value(&self, answers: &[Option<Number>]) -> Result<Number, Absent> {
        match self {
            Term::Constant(number) => Ok(*number),
            Term::Answer(question) => answers.get(*question).copied().flatten().ok_or(Absent::NoValue),
            Term::Negate(of) => of.value(answers)?.negated(),
            Term::Chain(first, rest) => rest.iter().try_fold(first.value(answers)?, |left, (operator, right)| {
                let right = right.value(answers)?;
                match operator {
                    Operator::Add => left.plus(right),
                    Operator::Subtract => left.minus(right),
                    Operator::Multiply => left.times(right),
                    Operator::Divide => left.per(right),
                }
            }),
            Term::Choose(choice) => {
                let Choice { comparison, sides: (left, right), results: (then, otherwise) } = choice.as_ref();
                let holds = comparison.holds(left.value(answers)?, right.value(answers)?);
                if holds { then.value(answers) } else { otherwise.value(answers) }
            }
            Term::Call(function, first, rest) => {
                let first = first.value(answers);
                let mut rest = rest.iter().map(|term| term.value(answers));
                match function {
                    Function::Abs => first?.absolute(),
                    Function::Min => rest.try_fold(first?, |least, other| Ok(least.smaller(other?))),
                    Function::Max => rest.try_fold(first?, |greatest, other| Ok(greatest.larger(other?))),
                    Function::NullIf if first.is_ok() && rest.any(|unwanted| unwanted == first) => Err(Absent::NoValue),
                    Function::NullIf => first,
                    Function::Coalesce => rest.fold(first, Result::or),
                }
            }
            Term::Growth(pair) => {
                let (now, before) = (pair.0.value(answers)?, pair.1.value(answers)?);
                now.minus(before)?.per(before)
            }
        }
    }
}
