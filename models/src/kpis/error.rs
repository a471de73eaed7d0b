//! Errors in formulas, with their position.

/// A range of a formula's text, in bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Span {
    pub start: usize,
    pub end: usize,
}

impl Span {
    pub fn to(self, end: Span) -> Span {
        Span { start: self.start, end: end.end }
    }
}

/// The kind of error. The names are for programs and stable.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ErrorCode {
    TextTooLong,
    TooDeep,
    TooManyOperations,
    UnexpectedCharacter,
    BadText,
    BadNumber,
    BadLength,
    UnexpectedToken,
    WrongArguments,
    UnknownFunction,
    UnknownName,
    UnknownField,
    UnknownDimension,
    UnknownSegment,
    UnitMismatch,
    ConditionExpected,
    MisplacedComparison,
    NotFilterable,
    NothingFits,
    TooFarBack,
    Cycle,
}

impl ErrorCode {
    pub fn as_str(self) -> &'static str {
        match self {
            ErrorCode::TextTooLong => "TEXT_TOO_LONG",
            ErrorCode::TooDeep => "TOO_DEEP",
            ErrorCode::TooManyOperations => "TOO_MANY_OPERATIONS",
            ErrorCode::UnexpectedCharacter => "UNEXPECTED_CHARACTER",
            ErrorCode::BadText => "BAD_TEXT",
            ErrorCode::BadNumber => "BAD_NUMBER",
            ErrorCode::BadLength => "BAD_LENGTH",
            ErrorCode::UnexpectedToken => "UNEXPECTED_TOKEN",
            ErrorCode::WrongArguments => "WRONG_ARGUMENTS",
            ErrorCode::UnknownFunction => "UNKNOWN_FUNCTION",
            ErrorCode::UnknownName => "UNKNOWN_NAME",
            ErrorCode::UnknownField => "UNKNOWN_FIELD",
            ErrorCode::UnknownDimension => "UNKNOWN_DIMENSION",
            ErrorCode::UnknownSegment => "UNKNOWN_SEGMENT",
            ErrorCode::UnitMismatch => "UNIT_MISMATCH",
            ErrorCode::ConditionExpected => "CONDITION_EXPECTED",
            ErrorCode::MisplacedComparison => "MISPLACED_COMPARISON",
            ErrorCode::NotFilterable => "NOT_FILTERABLE",
            ErrorCode::NothingFits => "NOTHING_FITS",
            ErrorCode::TooFarBack => "TOO_FAR_BACK",
            ErrorCode::Cycle => "CYCLE",
        }
    }
}

/// An error whose position is not yet converted to line and column.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Fault {
    pub(super) code: ErrorCode,
    pub(super) span: Span,
    pub(super) message: String,
    pub(super) suggestion: Option<String>,
}

impl Fault {
    pub(super) fn new(code: ErrorCode, span: Span, message: impl Into<String>) -> Fault {
        Fault { code, span, message: message.into(), suggestion: None }
    }

    /// Adds a suggested replacement.
    pub(super) fn or(self, suggestion: Option<&str>) -> Fault {
        let Some(suggestion) = suggestion else { return self };
        let message = format!("{}; did you mean `{suggestion}`?", self.message);
        Fault { message, suggestion: Some(suggestion.to_owned()), ..self }
    }

    pub(super) fn locate(self, text: &str) -> FormulaError {
        let Fault { code, span, message, suggestion } = self;
        let before = text.get(..span.start).unwrap_or(text);
        let (line, line_start) = (before.matches('\n').count() + 1, before.rfind('\n').map_or(0, |at| at + 1));
        let marked = text.get(span.start..span.end).unwrap_or_default();
        let length = marked.chars().take_while(|c| *c != '\n').count().max(1);
        let column = before.get(line_start..).unwrap_or_default().chars().count() + 1;
        FormulaError { code, message, suggestion, line, column, length }
    }
}

/// An error in a formula.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("line {line}, column {column}: {message}")]
pub struct FormulaError {
    pub code: ErrorCode,
    /// For the formula's author.
    pub message: String,
    /// A suggested replacement; also part of the message.
    pub suggestion: Option<String>,
    /// From 1.
    pub line: usize,
    /// In characters, 1-based.
    pub column: usize,
    /// In characters, within the line, at least 1.
    pub length: usize,
}

impl FormulaError {
    /// The affected line of `text`, the formula, with the position marked below.
    pub fn marked(&self, text: &str) -> String {
        let line = text.split('\n').nth(self.line.saturating_sub(1)).unwrap_or_default();
        format!("{line}\n{}{}", " ".repeat(self.column.saturating_sub(1)), "^".repeat(self.length))
    }
}
