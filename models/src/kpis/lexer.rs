//! The lexer: text to tokens.

use std::fmt;

use super::decimal::{DIGITS_MAX, Decimal};
use super::error::{ErrorCode, Fault, Span};
use super::shift::{CalendarUnit, Length};

/// Longer ones first.
const SYMBOLS: [&str; 15] = ["!=", "<=", ">=", "(", ")", ",", "?", ":", "+", "-", "*", "/", "=", "<", ">"];

/// Characters of word processors and other languages, and their equivalents here.
const FOREIGN: [(&str, &str); 14] = [
    ("==", "="),
    ("<>", "!="),
    ("×", "*"),
    ("÷", "/"),
    ("−", "-"),
    ("–", "-"),
    ("≠", "!="),
    ("≤", "<="),
    ("≥", ">="),
    ("'", "\""),
    ("“", "\""),
    ("”", "\""),
    ("„", "\""),
    (";", ","),
];

#[derive(Clone, Debug, PartialEq)]
pub(super) enum Token<'t> {
    Number(Decimal),
    Length(Length),
    /// Between double quotes.
    Text(String),
    Name(&'t str),
    Symbol(&'static str),
    End,
}

/// Reads tokens one at a time.
pub(super) struct Lexer<'t> {
    text: &'t str,
    at: usize,
}

impl<'t> Lexer<'t> {
    pub(super) fn new(text: &'t str) -> Self {
        Lexer { text, at: 0 }
    }

    pub(super) fn next_token(&mut self) -> Result<(Token<'t>, Span), Fault> {
        self.take_while(|c| matches!(c, ' ' | '\t' | '\r' | '\n'));
        let start = self.at;
        let rest = self.rest();
        let token = match rest.chars().next() {
            None => Token::End,
            Some('0'..='9') => self.number()?,
            Some('"') => self.quoted()?,
            Some(first) if is_name(first) => Token::Name(self.take_while(is_name)),
            Some(first) => self.symbol(first)?,
        };
        Ok((token, self.since(start)))
    }

    fn rest(&self) -> &'t str {
        self.text.get(self.at..).unwrap_or_default()
    }

    fn since(&self, start: usize) -> Span {
        Span { start, end: self.at }
    }

    fn take_while(&mut self, fits: fn(char) -> bool) -> &'t str {
        let rest = self.rest();
        let taken = rest.get(..rest.find(|c| !fits(c)).unwrap_or(rest.len())).unwrap_or_default();
        self.at += taken.len();
        taken
    }

    fn symbol(&mut self, first: char) -> Result<Token<'t>, Fault> {
        let rest = self.rest();
        let foreign = FOREIGN.into_iter().find(|(foreign, _)| rest.starts_with(foreign));
        if foreign.is_none()
            && let Some(symbol) = SYMBOLS.into_iter().find(|symbol| rest.starts_with(symbol))
        {
            self.at += symbol.len();
            return Ok(Token::Symbol(symbol));
        }
        let found = foreign.map_or_else(|| first.escape_debug().to_string(), |(foreign, _)| foreign.to_owned());
        let length = foreign.map_or(first.len_utf8(), |(foreign, _)| foreign.len());
        let span = Span { start: self.at, end: self.at + length };
        let fault = Fault::new(ErrorCode::UnexpectedCharacter, span, format!("`{found}` means nothing in a formula"));
        Err(fault.or(foreign.map(|(_, symbol)| symbol)))
    }

    /// A number, or a duration if letters follow it.
    fn number(&mut self) -> Result<Token<'t>, Fault> {
        let start = self.at;
        let is_digit = |c: char| c.is_ascii_digit();
        self.take_while(is_digit);
        if self.rest().strip_prefix('.').is_some_and(|after| after.starts_with(is_digit)) {
            self.at += 1;
            self.take_while(is_digit);
        }
        let decimal = self.text.get(start..self.at).and_then(Decimal::parse);
        let unit = self.take_while(is_name);
        let Some(decimal) = decimal else {
            let message = format!("a number has {DIGITS_MAX} digits at most");
            return Err(Fault::new(ErrorCode::BadNumber, self.since(start), message));
        };
        if unit.is_empty() {
            return Ok(Token::Number(decimal));
        }
        length(decimal, unit)
            .map(Token::Length)
            .map_err(|message| Fault::new(ErrorCode::BadLength, self.since(start), message))
    }

    fn quoted(&mut self) -> Result<Token<'t>, Fault> {
        let start = self.at;
        let mut text = String::new();
        let mut chars = self.rest().char_indices().skip(1);
        while let Some((at, c)) = chars.next() {
            self.at = start + at;
            match c {
                '"' => {
                    self.at += 1;
                    return Ok(Token::Text(text));
                }
                '\\' => match chars.next() {
                    Some((_, escaped @ ('"' | '\\'))) => text.push(escaped),
                    _ => return Err(self.bad_text("a backslash stands before a double quote or a backslash only")),
                },
                c if c.is_control() => return Err(self.bad_text("a text has no line breaks or control characters")),
                c => text.push(c),
            }
        }
        let end = self.text.len();
        Err(Fault::new(ErrorCode::BadText, Span { start, end }, "the text has no closing double quote"))
    }

    fn bad_text(&self, message: &str) -> Fault {
        Fault::new(ErrorCode::BadText, Span { start: self.at, end: self.at + 1 }, message)
    }
}

fn is_name(c: char) -> bool {
    c.is_ascii_alphanumeric() || c == '_'
}

/// Error: what is wrong.
fn length(decimal: Decimal, unit: &str) -> Result<Length, String> {
    let symbols = CalendarUnit::ALL.map(CalendarUnit::symbol);
    let unit = CalendarUnit::ALL
        .into_iter()
        .find(|known| known.symbol() == unit)
        .ok_or_else(|| format!("`{unit}` is no unit of the calendar; there are {}", symbols.join(", ")))?;
    let count = decimal.whole().and_then(|count| u32::try_from(count).ok()).filter(|count| *count > 0);
    let count = count.ok_or_else(|| "a length of time is a whole number of units, one at least".to_owned())?;
    Ok(Length { count, unit })
}

impl fmt::Display for Token<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Token::Number(number) => write!(f, "`{number}`"),
            Token::Length(length) => write!(f, "`{length}`"),
            Token::Text(_) => f.write_str("a text"),
            Token::Name(name) => write!(f, "`{name}`"),
            Token::Symbol(symbol) => write!(f, "`{symbol}`"),
            Token::End => f.write_str("the end"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tokens(text: &str) -> Result<Vec<String>, Fault> {
        let mut lexer = Lexer::new(text);
        let mut printed = Vec::new();
        loop {
            match lexer.next_token()? {
                (Token::End, _) => return Ok(printed),
                (Token::Text(text), _) => printed.push(format!("{text:?}")),
                (token, span) => printed.push(format!("{token}@{}", span.start)),
            }
        }
    }

    fn code(text: &str) -> Option<ErrorCode> {
        tokens(text).err().map(|fault| fault.code)
    }

    #[test]
    fn text_is_cut_into_tokens() {
        let found = tokens("a1>=12.50 !=28d\n(\"x \\\"y\\\" é\")").expect("tokens");
        assert_eq!(
            found,
            ["`a1`@0", "`>=`@2", "`12.5`@4", "`!=`@10", "`28d`@12", "`(`@16", "\"x \\\"y\\\" é\"", "`)`@29"]
        );
    }

    #[test]
    fn what_is_no_token_is_refused() {
        for (text, expected) in [
            ("a \0", ErrorCode::UnexpectedCharacter),
            ("Umsätze", ErrorCode::UnexpectedCharacter),
            ("1 == 2", ErrorCode::UnexpectedCharacter),
            ("5.", ErrorCode::UnexpectedCharacter),
            ("1234567890123456789", ErrorCode::BadNumber),
            ("1e5", ErrorCode::BadLength),
            ("0y", ErrorCode::BadLength),
            ("1.5y", ErrorCode::BadLength),
            ("\"abc", ErrorCode::BadText),
            ("\"a\nb\"", ErrorCode::BadText),
            ("\"a\\n\"", ErrorCode::BadText),
            ("\"\\", ErrorCode::BadText),
        ] {
            assert_eq!(code(text), Some(expected), "{text:?}");
        }
    }
}
