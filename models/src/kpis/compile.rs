//! Resolves names, checks units, and compiles a formula to a [`Plan`].
//!
//! Filters and time shifts are pushed down to the metrics, so that a metric is queried once per filter and shift.
//! References to KPIs are inlined.

use std::collections::{BTreeMap, HashMap};

use super::ast::{self, Condition, Expr, ExprKind, Function, Operator, Spanned, Test};
use super::catalog::{Aggregate, Catalog, MetricDef};
use super::error::{ErrorCode, Fault, Span};
use super::filter::{Dimension, Filter, SEGMENTS, Values};
use super::formula::Formula;
use super::parser::DEPTH_MAX;
use super::plan::{Choice, Plan, Question, Term};
use super::shift::{Length, Shift};
use super::suggest::nearest;
use super::unit::{Type, Unit};

/// Maximum number of literals, names and operations of a formula, including the KPIs it references.
pub const OPERATIONS_MAX: usize = 1024;

pub(super) fn compile(expr: &Expr, catalog: Catalog, kpis: &BTreeMap<String, Formula>) -> Result<Plan, Fault> {
    let mut compiler =
        Compiler { catalog, kpis, questions: Vec::new(), numbers: HashMap::new(), operations: 0, depth: 0 };
    let (term, of) = compiler.expression(expr, &Scope::default())?;
    let Compiler { questions, operations, .. } = compiler;
    Ok(Plan { unit: of.unit(), questions, operations, term })
}

struct Compiler<'a> {
    catalog: Catalog,
    kpis: &'a BTreeMap<String, Formula>,
    questions: Vec<Question>,
    /// Indexes into `questions`.
    numbers: HashMap<Question, usize>,
    operations: usize,
    depth: usize,
}

/// The filter and shift that apply to an expression.
#[derive(Clone, Default)]
struct Scope {
    filter: Filter,
    shift: Shift,
}

type Typed = (Term, Type);

const RATIO: Type = Type::Has(Unit::Ratio);

impl Compiler<'_> {
    fn expression(&mut self, expr: &Expr, scope: &Scope) -> Result<Typed, Fault> {
        self.count(expr.span)?;
        self.depth += 1;
        if self.depth > DEPTH_MAX {
            let message =
                format!("more than {DEPTH_MAX} expressions stand in each other, with those of the KPIs named");
            return Err(Fault::new(ErrorCode::TooDeep, expr.span, message));
        }
        let typed = self.term(expr, scope)?;
        self.depth -= 1;
        Ok(typed)
    }

    /// Counts a literal, a name or an operation.
    fn count(&mut self, span: Span) -> Result<(), Fault> {
        self.operations += 1;
        if self.operations > OPERATIONS_MAX {
            let message =
                format!("more than {OPERATIONS_MAX} numbers, names and operations, with those of the KPIs named");
            return Err(Fault::new(ErrorCode::TooManyOperations, span, message));
        }
        Ok(())
    }

    fn term(&mut self, expr: &Expr, scope: &Scope) -> Result<Typed, Fault> {
        match &expr.value {
            ExprKind::Number(decimal) => Ok((Term::Constant(decimal.number()), Type::Plain)),
            ExprKind::Name(name) => self.named(name, expr.span, scope),
            ExprKind::Aggregate(aggregate, field) => self.aggregate(*aggregate, field, expr.span, scope),
            ExprKind::Negate(of) => {
                let (term, of) = self.expression(of, scope)?;
                Ok((Term::Negate(Box::new(term)), of))
            }
            ExprKind::Chain(first, rest) => self.chain(first, rest, scope),
            ExprKind::Compare(..) => {
                let message = "a comparison stands before `?` only: `condition ? value : other value`";
                Err(Fault::new(ErrorCode::MisplacedComparison, expr.span, message))
            }
            ExprKind::Choose(choice) => self.choice(choice, scope),
            ExprKind::Call(function, arguments) => self.call(*function, arguments, expr.span, scope),
            ExprKind::Previous(of, length) => self.expression(of, &scope.back(*length, expr.span)?),
            ExprKind::Growth(of, length) => {
                let (now, _) = self.expression(of, scope)?;
                let (before, _) = self.expression(of, &scope.back(*length, expr.span)?)?;
                Ok((Term::Growth(Box::new((now, before))), RATIO))
            }
            ExprKind::Filtered(of, conditions) => self.expression(of, &scope.filtered(conditions)?),
        }
    }

    fn named(&mut self, name: &str, span: Span, scope: &Scope) -> Result<Typed, Fault> {
        if let Some(metric) = self.catalog.find(name) {
            return self.answer(metric, span, scope);
        }
        let kpis = self.kpis;
        if let Some(formula) = kpis.get(name) {
            return self.expression(formula.root(), scope).map_err(|fault| inside(name, span, fault));
        }
        let mut known: Vec<&str> = self.catalog.names().collect();
        known.extend(kpis.keys().map(String::as_str));
        let fault = Fault::new(ErrorCode::UnknownName, span, format!("there is no metric or KPI `{name}`"));
        Err(fault.or(nearest(name, known)))
    }

    fn aggregate(
        &mut self,
        aggregate: Aggregate,
        field: &Spanned<String>,
        span: Span,
        scope: &Scope,
    ) -> Result<Typed, Fault> {
        if let Some(metric) = self.catalog.find_aggregate(aggregate, &field.value) {
            return self.answer(metric, span, scope);
        }
        let known: Vec<_> = self.catalog.fields(aggregate).collect();
        let (name, field_name) = (aggregate.name(), &field.value);
        let message = format!("there is no {name} of `{field_name}`; there is one of {}", known.join(", "));
        Err(Fault::new(ErrorCode::UnknownField, field.span, message).or(nearest(field_name, known)))
    }

    fn answer(&mut self, metric: &MetricDef, span: Span, scope: &Scope) -> Result<Typed, Fault> {
        let mut dimensions = scope.filter.by_dimension().map(|(dimension, _)| dimension);
        if let Some(dimension) = dimensions.find(|dimension| metric.not_by.contains(dimension)) {
            let message = format!("`{}` cannot be filtered by {dimension}", metric.name);
            return Err(Fault::new(ErrorCode::NotFilterable, span, message));
        }
        let question = Question { metric: metric.name, filter: scope.filter.clone(), shift: scope.shift.clone() };
        let number = *self.numbers.entry(question.clone()).or_insert(self.questions.len());
        if number == self.questions.len() {
            self.questions.push(question);
        }
        Ok((Term::Answer(number), Type::Has(metric.unit)))
    }

    fn chain(&mut self, first: &Expr, rest: &[(Operator, Expr)], scope: &Scope) -> Result<Typed, Fault> {
        let (first, mut left) = self.expression(first, scope)?;
        let mut terms = Vec::with_capacity(rest.len());
        for (i, (operator, expr)) in rest.iter().enumerate() {
            // The first operator was counted with the chain.
            if i > 0 {
                self.count(expr.span)?;
            }
            let (term, right) = self.expression(expr, scope)?;
            let of = match operator {
                Operator::Add | Operator::Subtract => left.joined(right),
                Operator::Multiply => left.times(right),
                Operator::Divide => left.per(right),
            };
            let message = || match operator {
                Operator::Add => format!("{right} cannot be added to {left}"),
                Operator::Subtract => format!("{right} cannot be subtracted from {left}"),
                Operator::Multiply => format!("{left} cannot be multiplied by {right}"),
                Operator::Divide => format!("{left} cannot be divided by {right}"),
            };
            left = of.ok_or_else(|| Fault::new(ErrorCode::UnitMismatch, expr.span, message()))?;
            terms.push((*operator, term));
        }
        Ok((Term::Chain(Box::new(first), terms), left))
    }

    fn choice(&mut self, choice: &ast::Choice, scope: &Scope) -> Result<Typed, Fault> {
        let ExprKind::Compare(comparison, left, right) = &choice.condition.value else {
            let message = "what stands before `?` must be a comparison such as `visits > 0`";
            return Err(Fault::new(ErrorCode::ConditionExpected, choice.condition.span, message));
        };
        self.count(choice.condition.span)?;
        let (sides, _) =
            self.alike(left, right, scope, |left, right| format!("{left} cannot be compared with {right}"))?;
        let (results, of) = self.alike(&choice.then, &choice.otherwise, scope, |then, otherwise| {
            format!("both results of `?` must have the same unit, not {then} and {otherwise}")
        })?;
        Ok((Term::Choose(Box::new(Choice { comparison: *comparison, sides, results })), of))
    }

    /// Two expressions with compatible units. Error: `message`, with their units.
    fn alike(
        &mut self,
        first: &Expr,
        second: &Expr,
        scope: &Scope,
        message: fn(Type, Type) -> String,
    ) -> Result<((Term, Term), Type), Fault> {
        let ((first, of), (other, other_of)) = (self.expression(first, scope)?, self.expression(second, scope)?);
        let fault = || Fault::new(ErrorCode::UnitMismatch, second.span, message(of, other_of));
        Ok(((first, other), of.joined(other_of).ok_or_else(fault)?))
    }

    fn call(&mut self, function: Function, arguments: &[Expr], span: Span, scope: &Scope) -> Result<Typed, Fault> {
        let name = function.name();
        let (is_right, wanted) = match function {
            Function::Abs => (arguments.len() == 1, "one argument"),
            Function::NullIf => (arguments.len() == 2, "two arguments"),
            Function::Min | Function::Max | Function::Coalesce => (arguments.len() >= 2, "two arguments or more"),
        };
        let Some((first, rest)) = arguments.split_first().filter(|_| is_right) else {
            let message = format!("`{name}` takes {wanted}, not {}", arguments.len());
            return Err(Fault::new(ErrorCode::WrongArguments, span, message));
        };
        let (first, mut of) = self.expression(first, scope)?;
        let mut terms = Vec::with_capacity(rest.len());
        for argument in rest {
            let (term, other) = self.expression(argument, scope)?;
            let message = || format!("the arguments of `{name}` must have the same unit, not {of} and {other}");
            of = of.joined(other).ok_or_else(|| Fault::new(ErrorCode::UnitMismatch, argument.span, message()))?;
            terms.push(term);
        }
        Ok((Term::Call(function, Box::new(first), terms), of))
    }
}

impl Scope {
    fn back(&self, length: Option<Length>, span: Span) -> Result<Scope, Fault> {
        let message = "a formula looks back ten years or 120 periods at most";
        let shift = self.shift.back(length).ok_or_else(|| Fault::new(ErrorCode::TooFarBack, span, message))?;
        Ok(Scope { shift, ..self.clone() })
    }

    fn filtered(&self, conditions: &[Spanned<Condition>]) -> Result<Scope, Fault> {
        let mut scope = self.clone();
        for Spanned { value: condition, span } in conditions {
            let values = values(condition)?;
            let message = "no fact can fit this and the other conditions on the same dimension";
            let nothing = || Fault::new(ErrorCode::NothingFits, *span, message);
            scope.filter = scope.filter.and(condition.dimension, &values).ok_or_else(nothing)?;
        }
        Ok(scope)
    }
}

fn values(condition: &Condition) -> Result<Values, Fault> {
    let is_segment = |value: &str| condition.dimension != Dimension::Segment || SEGMENTS.contains(&value);
    if let Some(unknown) = condition.values.iter().find(|value| !is_segment(&value.value)) {
        let message =
            format!("there is no segment {:?}; there are {:?} and {:?}", unknown.value, SEGMENTS[0], SEGMENTS[1]);
        let fault = Fault::new(ErrorCode::UnknownSegment, unknown.span, message);
        return Err(fault.or(nearest(&unknown.value, SEGMENTS)));
    }
    let values = condition.values.iter().map(|value| value.value.clone()).collect();
    Ok(match condition.test {
        Test::Is | Test::In => Values::Only(values),
        Test::IsNot => Values::AllBut(values),
    })
}

/// An error in the KPI `name`, reported at its reference.
fn inside(name: &str, span: Span, fault: Fault) -> Fault {
    match fault.code {
        // Their messages concern all KPIs together.
        ErrorCode::TooDeep | ErrorCode::TooManyOperations => Fault { span, ..fault },
        code => Fault::new(code, span, format!("in `{name}`: {}", fault.message)),
    }
}
