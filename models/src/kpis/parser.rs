//! The parser: tokens to a tree, by precedence climbing (V. R. Pratt, Top down operator precedence, 1973).

use super::ast::{Choice, Comparison, Condition, Expr, ExprKind, Function, Operator, Spanned, Test, chained};
use super::catalog::Aggregate;
use super::error::{ErrorCode, Fault, Span};
use super::filter::Dimension;
use super::lexer::{Lexer, Token};
use super::shift::Length;
use super::suggest::nearest;

/// Maximum length of a formula, in bytes.
pub const TEXT_BYTES_MAX: usize = 4096;
/// Maximum nesting of expressions, including referenced KPIs.
pub const DEPTH_MAX: usize = 64;

/// Words that cannot be names of KPIs.
pub(super) const KEYWORDS: [&str; 3] = ["filter", "and", "in"];
/// Functions of earlier periods.
const LOOKING_BACK: [&str; 2] = ["prev", "growth"];

/// Binding powers of operators, from weak to strong.
mod power {
    pub(super) const CHOICE: u8 = 1;
    pub(super) const COMPARISON: u8 = 2;
    pub(super) const SUM: u8 = 3;
    pub(super) const PRODUCT: u8 = 4;
    pub(super) const SIGN: u8 = 5;
}

/// What may follow an operand.
enum Infix {
    Operator(Operator),
    Comparison(Comparison),
    Choice,
}

/// Parses a whole formula.
pub(super) fn parse(text: &str) -> Result<Expr, Fault> {
    if text.len() > TEXT_BYTES_MAX {
        let start = text.floor_char_boundary(TEXT_BYTES_MAX);
        let message = format!("a formula has {TEXT_BYTES_MAX} bytes at most, this one has {}", text.len());
        return Err(Fault::new(ErrorCode::TextTooLong, Span { start, end: start }, message));
    }
    let mut lexer = Lexer::new(text);
    let (token, span) = lexer.next_token()?;
    let mut parser = Parser { lexer, token, span, depth: 0 };
    let expr = parser.expression(0)?;
    match parser.token {
        Token::End => Ok(expr),
        Token::Name(name) if name != "filter" => {
            Err(parser.unexpected("an operator or the end").or(nearest(name, ["filter"])))
        }
        _ => Err(parser.unexpected("an operator or the end")),
    }
}

pub(super) fn function_names() -> impl Iterator<Item = &'static str> {
    let aggregates = Aggregate::ALL.into_iter().map(Aggregate::name);
    Function::ALL.into_iter().map(Function::name).chain(aggregates).chain(LOOKING_BACK)
}

struct Parser<'t> {
    lexer: Lexer<'t>,
    /// The lookahead token and its position.
    token: Token<'t>,
    span: Span,
    depth: usize,
}

impl<'t> Parser<'t> {
    fn advance(&mut self) -> Result<Span, Fault> {
        let passed = self.span;
        (self.token, self.span) = self.lexer.next_token()?;
        Ok(passed)
    }

    fn is(&self, symbol: &str) -> bool {
        matches!(self.token, Token::Symbol(found) if found == symbol)
    }

    fn expect(&mut self, symbol: &'static str) -> Result<Span, Fault> {
        if self.is(symbol) { self.advance() } else { Err(self.unexpected(&format!("`{symbol}`"))) }
    }

    fn unexpected(&self, expected: &str) -> Fault {
        Fault::new(ErrorCode::UnexpectedToken, self.span, format!("expected {expected}, found {}", self.token))
    }

    /// Parses an expression whose operators bind at least as strongly as `power_min`.
    fn expression(&mut self, power_min: u8) -> Result<Expr, Fault> {
        self.depth += 1;
        if self.depth > DEPTH_MAX {
            let message = format!("more than {DEPTH_MAX} expressions stand in each other");
            return Err(Fault::new(ErrorCode::TooDeep, self.span, message));
        }
        let mut left = self.operand()?;
        while let Some((infix, power)) = self.infix().filter(|(_, power)| *power >= power_min) {
            self.advance()?;
            left = match infix {
                Infix::Operator(operator) => chained(left, operator, self.expression(power + 1)?),
                Infix::Comparison(comparison) => {
                    let right = self.expression(power + 1)?;
                    let span = left.span.to(right.span);
                    Spanned { value: ExprKind::Compare(comparison, Box::new(left), Box::new(right)), span }
                }
                Infix::Choice => self.choice(left)?,
            };
        }
        self.depth -= 1;
        Ok(left)
    }

    fn infix(&self) -> Option<(Infix, u8)> {
        let Token::Symbol(symbol) = self.token else { return None };
        Some(match symbol {
            "+" => (Infix::Operator(Operator::Add), power::SUM),
            "-" => (Infix::Operator(Operator::Subtract), power::SUM),
            "*" => (Infix::Operator(Operator::Multiply), power::PRODUCT),
            "/" => (Infix::Operator(Operator::Divide), power::PRODUCT),
            "?" => (Infix::Choice, power::CHOICE),
            _ => {
                let comparison = Comparison::ALL.into_iter().find(|comparison| comparison.symbol() == symbol)?;
                (Infix::Comparison(comparison), power::COMPARISON)
            }
        })
    }

    /// Parses the rest after `condition ?`.
    fn choice(&mut self, condition: Expr) -> Result<Expr, Fault> {
        let then = self.expression(0)?;
        self.expect(":")?;
        let otherwise = self.expression(power::CHOICE)?;
        let span = condition.span.to(otherwise.span);
        Ok(Spanned { value: ExprKind::Choose(Box::new(Choice { condition, then, otherwise })), span })
    }

    fn operand(&mut self) -> Result<Expr, Fault> {
        if self.is("-") {
            let start = self.advance()?;
            let of = self.expression(power::SIGN)?;
            return Ok(Spanned { span: start.to(of.span), value: ExprKind::Negate(Box::new(of)) });
        }
        let primary = self.primary()?;
        if self.token != Token::Name("filter") {
            return Ok(primary);
        }
        let mut conditions = Vec::new();
        let end = loop {
            self.advance()?;
            let condition = self.condition()?;
            let end = condition.span;
            conditions.push(condition);
            if self.token != Token::Name("and") {
                break end;
            }
        };
        Ok(Spanned { span: primary.span.to(end), value: ExprKind::Filtered(Box::new(primary), conditions) })
    }

    fn primary(&mut self) -> Result<Expr, Fault> {
        match self.token {
            Token::Number(number) => Ok(Spanned { span: self.advance()?, value: ExprKind::Number(number) }),
            Token::Name(name) if !KEYWORDS.contains(&name) => {
                let span = self.advance()?;
                if self.is("(") {
                    return self.call(name, span);
                }
                Ok(Spanned { value: ExprKind::Name(name.to_owned()), span })
            }
            Token::Symbol("(") => {
                let start = self.advance()?;
                let inner = self.expression(0)?;
                let end = self.expect(")")?;
                Ok(Spanned { span: start.to(end), ..inner })
            }
            _ => Err(self.unexpected("a value")),
        }
    }

    /// Parses the rest after the name of a function.
    fn call(&mut self, name: &'t str, start: Span) -> Result<Expr, Fault> {
        self.advance()?;
        let value = if let Some(aggregate) = Aggregate::ALL.into_iter().find(|known| known.name() == name) {
            let Token::Name(field) = self.token else { return Err(self.unexpected("the name of a field")) };
            ExprKind::Aggregate(aggregate, Spanned { span: self.advance()?, value: field.to_owned() })
        } else if LOOKING_BACK.contains(&name) {
            let of = Box::new(self.expression(0)?);
            let length = self.length()?;
            if name == "prev" { ExprKind::Previous(of, length) } else { ExprKind::Growth(of, length) }
        } else if let Some(function) = Function::ALL.into_iter().find(|known| known.name() == name) {
            ExprKind::Call(function, self.arguments()?)
        } else {
            let fault = Fault::new(ErrorCode::UnknownFunction, start, format!("there is no function `{name}`"));
            return Err(fault.or(nearest(name, function_names())));
        };
        let end = self.expect(")")?;
        Ok(Spanned { value, span: start.to(end) })
    }

    fn arguments(&mut self) -> Result<Vec<Expr>, Fault> {
        let mut arguments = Vec::new();
        if self.is(")") {
            return Ok(arguments);
        }
        arguments.push(self.expression(0)?);
        while self.is(",") {
            self.advance()?;
            arguments.push(self.expression(0)?);
        }
        Ok(arguments)
    }

    /// `, 1y` or nothing.
    fn length(&mut self) -> Result<Option<Length>, Fault> {
        if !self.is(",") {
            return Ok(None);
        }
        self.advance()?;
        let Token::Length(length) = self.token else {
            return Err(self.unexpected("a length of time such as `1y` or `28d`"));
        };
        self.advance()?;
        Ok(Some(length))
    }

    fn condition(&mut self) -> Result<Spanned<Condition>, Fault> {
        let Token::Name(name) = self.token else { return Err(self.unexpected("a dimension")) };
        let start = self.span;
        let Some(dimension) = Dimension::of_name(name) else {
            let known = Dimension::ALL.map(Dimension::name);
            let message = format!("there is no dimension `{name}`; there are {}", known.join(", "));
            return Err(Fault::new(ErrorCode::UnknownDimension, start, message).or(nearest(name, known)));
        };
        self.advance()?;
        let test = match self.token {
            Token::Symbol("=") => Test::Is,
            Token::Symbol("!=") => Test::IsNot,
            Token::Name("in") => Test::In,
            _ => return Err(self.unexpected("`=`, `!=` or `in`")),
        };
        self.advance()?;
        if test != Test::In {
            let value = self.text()?;
            let span = start.to(value.span);
            return Ok(Spanned { value: Condition { dimension, test, values: vec![value] }, span });
        }
        self.expect("(")?;
        let mut values = vec![self.text()?];
        while self.is(",") {
            self.advance()?;
            values.push(self.text()?);
        }
        let end = self.expect(")")?;
        Ok(Spanned { value: Condition { dimension, test, values }, span: start.to(end) })
    }

    fn text(&mut self) -> Result<Spanned<String>, Fault> {
        let Token::Text(text) = &mut self.token else { return Err(self.unexpected("a text in double quotes")) };
        let value = std::mem::take(text);
        Ok(Spanned { value, span: self.advance()? })
    }
}
