//! The syntax tree of a formula: names are not resolved yet, units not checked.

use super::catalog::Aggregate;
use super::decimal::Decimal;
use super::error::Span;
use super::filter::Dimension;
use super::number::Number;
use super::shift::Length;

/// A node and its source position. Equality ignores the position.
#[derive(Clone, Debug)]
pub struct Spanned<T> {
    pub value: T,
    pub span: Span,
}

impl<T: PartialEq> PartialEq for Spanned<T> {
    fn eq(&self, other: &Self) -> bool {
        self.value == other.value
    }
}

pub type Expr = Spanned<ExprKind>;

#[derive(Clone, Debug, PartialEq)]
pub enum ExprKind {
    Number(Decimal),
    /// A metric or a KPI.
    Name(String),
    /// `sum(net)`
    Aggregate(Aggregate, Spanned<String>),
    Negate(Box<Expr>),
    /// Left-associative operators of one precedence; constructed by [`chained`] only.
    Chain(Box<Expr>, Vec<(Operator, Expr)>),
    Compare(Comparison, Box<Expr>, Box<Expr>),
    /// `condition ? then : otherwise`
    Choose(Box<Choice>),
    Call(Function, Vec<Expr>),
    /// `prev(of)`, `prev(of, 1y)`
    Previous(Box<Expr>, Option<Length>),
    /// `growth(of)`, `growth(of, 1y)`
    Growth(Box<Expr>, Option<Length>),
    /// `of filter channel = "online" and region = "EU"`
    Filtered(Box<Expr>, Vec<Spanned<Condition>>),
}

#[derive(Clone, Debug, PartialEq)]
pub struct Choice {
    pub condition: Expr,
    pub then: Expr,
    pub otherwise: Expr,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Operator {
    Add,
    Subtract,
    Multiply,
    Divide,
}

impl Operator {
    pub fn symbol(self) -> &'static str {
        match self {
            Operator::Add => "+",
            Operator::Subtract => "-",
            Operator::Multiply => "*",
            Operator::Divide => "/",
        }
    }

    pub fn is_sum(self) -> bool {
        matches!(self, Operator::Add | Operator::Subtract)
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Comparison {
    Equal,
    NotEqual,
    Less,
    LessOrEqual,
    Greater,
    GreaterOrEqual,
}

impl Comparison {
    pub const ALL: [Comparison; 6] = [
        Comparison::Equal,
        Comparison::NotEqual,
        Comparison::Less,
        Comparison::LessOrEqual,
        Comparison::Greater,
        Comparison::GreaterOrEqual,
    ];

    pub fn symbol(self) -> &'static str {
        match self {
            Comparison::Equal => "=",
            Comparison::NotEqual => "!=",
            Comparison::Less => "<",
            Comparison::LessOrEqual => "<=",
            Comparison::Greater => ">",
            Comparison::GreaterOrEqual => ">=",
        }
    }

    pub(super) fn holds(self, left: Number, right: Number) -> bool {
        let order = left.compare(right);
        match self {
            Comparison::Equal => order.is_eq(),
            Comparison::NotEqual => order.is_ne(),
            Comparison::Less => order.is_lt(),
            Comparison::LessOrEqual => order.is_le(),
            Comparison::Greater => order.is_gt(),
            Comparison::GreaterOrEqual => order.is_ge(),
        }
    }
}

/// Functions of values.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Function {
    Abs,
    Min,
    Max,
    NullIf,
    Coalesce,
}

impl Function {
    pub const ALL: [Function; 5] = [Function::Abs, Function::Min, Function::Max, Function::NullIf, Function::Coalesce];

    pub fn name(self) -> &'static str {
        match self {
            Function::Abs => "abs",
            Function::Min => "min",
            Function::Max => "max",
            Function::NullIf => "nullif",
            Function::Coalesce => "coalesce",
        }
    }
}

#[derive(Clone, Debug, PartialEq)]
pub struct Condition {
    pub dimension: Dimension,
    pub test: Test,
    pub values: Vec<Spanned<String>>,
}

/// How a fact's value is compared; `=` and `!=` have a single value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Test {
    Is,
    IsNot,
    In,
}

/// `left operator right`; extends a chain on the left, since operators of one precedence are left-associative.
pub fn chained(left: Expr, operator: Operator, right: Expr) -> Expr {
    let span = left.span.to(right.span);
    let value = match left.value {
        ExprKind::Chain(first, mut rest) if rest.iter().all(|(other, _)| other.is_sum() == operator.is_sum()) => {
            rest.push((operator, right));
            ExprKind::Chain(first, rest)
        }
        value => {
            let left = Spanned { value, span: left.span };
            ExprKind::Chain(Box::new(left), vec![(operator, right)])
        }
    };
    Spanned { value, span }
}

/// All names of metrics and KPIs in `expr`.
pub fn names(expr: &Expr) -> Vec<Spanned<&str>> {
    let mut found = Vec::new();
    collect_names(expr, &mut found);
    found
}

fn collect_names<'e>(expr: &'e Expr, found: &mut Vec<Spanned<&'e str>>) {
    match &expr.value {
        ExprKind::Number(_) | ExprKind::Aggregate(..) => {}
        ExprKind::Name(name) => found.push(Spanned { value: name, span: expr.span }),
        ExprKind::Negate(of) | ExprKind::Previous(of, _) | ExprKind::Growth(of, _) | ExprKind::Filtered(of, _) => {
            collect_names(of, found)
        }
        ExprKind::Chain(first, rest) => {
            collect_names(first, found);
            rest.iter().for_each(|(_, operand)| collect_names(operand, found));
        }
        ExprKind::Compare(_, left, right) => [left, right].into_iter().for_each(|side| collect_names(side, found)),
        ExprKind::Choose(choice) => {
            let Choice { condition, then, otherwise } = choice.as_ref();
            [condition, then, otherwise].into_iter().for_each(|part| collect_names(part, found));
        }
        ExprKind::Call(_, arguments) => arguments.iter().for_each(|argument| collect_names(argument, found)),
    }
}
