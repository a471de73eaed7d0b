//! Checks on a document before it reaches the parser, which recurses with the nesting of its text.

use std::borrow::Cow;

use super::errors::Refusal;

/// Maximum length of a document, in bytes.
pub const TEXT_BYTES_MAX: usize = 100 * 1024;
/// Maximum number of names, numbers, strings and punctuators in a document.
const TOKENS_MAX: usize = 15_000;
/// Maximum number of open braces, brackets and parentheses at any point.
pub const NESTING_MAX: usize = 64;

/// Counts tokens and nesting in one pass over the bytes. Invalid GraphQL is left to the parser, except for unterminated
/// strings: it would read on inside them. Errors: QUERY_TOO_LARGE, QUERY_TOO_DEEP, GRAPHQL_PARSE_FAILED.
pub fn scan(text: &str) -> Result<(), Refusal> {
    if text.len() > TEXT_BYTES_MAX {
        return Err(Refusal::new("QUERY_TOO_LARGE", format!("the document is longer than {TEXT_BYTES_MAX} bytes")));
    }
    let (mut tokens, mut nesting) = (0usize, 0usize);
    for token in Tokens::of(text) {
        let token =
            token.ok_or_else(|| Refusal::new("GRAPHQL_PARSE_FAILED", "a string of the document is not closed"))?;
        tokens += 1;
        match token {
            "{" | "[" | "(" => nesting += 1,
            "}" | "]" | ")" => nesting = nesting.saturating_sub(1),
            _ => {}
        }
        if nesting > NESTING_MAX {
            return Err(Refusal::new("QUERY_TOO_DEEP", format!("more than {NESTING_MAX} brackets are open at once")));
        }
        if tokens > TOKENS_MAX {
            return Err(Refusal::new("QUERY_TOO_LARGE", format!("the document has more than {TOKENS_MAX} tokens")));
        }
    }
    Ok(())
}

/// The document with escapes that the parser does not know, of characters beyond 16 bits, in a form that it knows.
pub fn with_known_escapes(text: &str) -> Cow<'_, str> {
    if !text.contains("\\u") {
        return text.into();
    }
    let mut known = String::with_capacity(text.len());
    let mut tokens = Tokens::of(text);
    let mut copied = 0;
    while let Some(Some(token)) = tokens.next() {
        if token.starts_with('"') && !token.starts_with(BLOCK) {
            known.push_str(&text[copied..tokens.at - token.len()]);
            push_string(token, &mut known);
            copied = tokens.at;
        }
    }
    (known + &text[copied..]).into()
}

fn push_string(mut rest: &str, into: &mut String) {
    while let Some(at) = rest.find('\\') {
        into.push_str(&rest[..at]);
        rest = &rest[at..];
        match long_escape(rest) {
            Some((c, length)) => {
                if c.is_control() || matches!(c, '"' | '\\') {
                    into.push_str(&format!("\\u{:04X}", u32::from(c)));
                } else {
                    into.push(c);
                }
                rest = &rest[length..];
            }
            // The escaped character may be a backslash.
            None => {
                let length = 1 + rest[1..].chars().next().map_or(0, char::len_utf8);
                into.push_str(&rest[..length]);
                rest = &rest[length..];
            }
        }
    }
    into.push_str(rest);
}

/// The character of a pair of surrogates (`\uD83D\uDE00`) or of a number in braces (`\u{1F600}`) at the start of `text`, and the
/// escape's length.
fn long_escape(text: &str) -> Option<(char, usize)> {
    let digits = |digits: &str| {
        let is_hex = digits.bytes().all(|digit| digit.is_ascii_hexdigit());
        u32::from_str_radix(digits, 16).ok().filter(|_| is_hex)
    };
    let escaped = text.strip_prefix("\\u")?;
    if let Some(escaped) = escaped.strip_prefix('{') {
        let (number, _) = escaped.split_once('}')?;
        return Some((char::from_u32(digits(number)?)?, number.len() + 4));
    }
    let unit = |from: usize| u16::try_from(digits(escaped.get(from..from + 4)?)?).ok();
    escaped.get(4..)?.strip_prefix("\\u")?;
    let pair = [unit(0)?, unit(6)?];
    let mut decoded = char::decode_utf16(pair);
    match (decoded.next(), decoded.next()) {
        (Some(Ok(c)), None) => Some((c, 12)),
        _ => None,
    }
}

/// The names, numbers, strings and punctuators of a document; `None` for an unterminated string, which is the last.
struct Tokens<'a> {
    text: &'a str,
    /// The end of the last token.
    at: usize,
}

impl<'a> Tokens<'a> {
    fn of(text: &'a str) -> Self {
        Tokens { text, at: 0 }
    }
}

impl<'a> Iterator for Tokens<'a> {
    type Item = Option<&'a str>;

    fn next(&mut self) -> Option<Self::Item> {
        let bytes = self.text.as_bytes();
        loop {
            match bytes.get(self.at)? {
                b' ' | b'\t' | b'\r' | b'\n' | b',' => self.at += 1,
                b'#' => self.at = end_of_line(bytes, self.at),
                _ => break,
            }
        }
        let begin = self.at;
        let end = end_of_token(bytes, begin);
        self.at = end.unwrap_or(bytes.len());
        Some(end.and_then(|end| self.text.get(begin..end)))
    }
}

/// Encloses a block string.
const BLOCK: &str = "\"\"\"";

fn end_of_line(bytes: &[u8], from: usize) -> usize {
    bytes[from..].iter().position(|byte| matches!(byte, b'\n' | b'\r')).map_or(bytes.len(), |length| from + length)
}

/// The end of the token at `from`; `None` for an unterminated string.
fn end_of_token(bytes: &[u8], from: usize) -> Option<usize> {
    let rest = &bytes[from..];
    if rest.starts_with(BLOCK.as_bytes()) {
        return end_of_string(bytes, from + BLOCK.len(), BLOCK.as_bytes(), b"\\\"\"\"");
    }
    match rest[0] {
        b'"' => end_of_string(bytes, from + 1, b"\"", b"\\\""),
        byte if is_word(byte) => Some(from + rest.iter().position(|byte| !is_word(*byte)).unwrap_or(rest.len())),
        _ => Some(from + 1),
    }
}

/// A single-quoted string ends within its line.
fn end_of_string(bytes: &[u8], mut at: usize, end: &[u8], escaped: &[u8]) -> Option<usize> {
    let is_block = end.len() > 1;
    while at < bytes.len() {
        let rest = &bytes[at..];
        if rest.starts_with(escaped) {
            at += escaped.len();
        } else if !is_block && rest.starts_with(b"\\") {
            // Within a character, if it is longer: no part of it is a quote or backslash.
            at += 2;
        } else if rest.starts_with(end) {
            return Some(at + end.len());
        } else if !is_block && matches!(rest[0], b'\n' | b'\r') {
            return None;
        } else {
            at += 1;
        }
    }
    None
}

/// Part of a name or number.
fn is_word(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-' | b'+' | b'.') || byte >= 0x80
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn code(text: &str) -> Option<&'static str> {
        scan(text).err().map(|refusal| refusal.code)
    }

    #[test]
    fn brackets_in_strings_and_comments_are_no_nesting() {
        let inside = "[".repeat(1000);
        assert_eq!(
            code(&format!(
                "{{ a(b: \"{inside}\\\"{inside}\", c: \"\"\"{inside}\\\"\"\"{inside}\"\"\") # {inside}\n }}"
            )),
            None
        );
        assert_eq!(code(&format!("{{ a(b: \"\\\\\") {inside}")), Some("QUERY_TOO_DEEP"));
        assert_eq!(code(&"{".repeat(NESTING_MAX)), None);
        assert_eq!(code(&"{".repeat(NESTING_MAX + 1)), Some("QUERY_TOO_DEEP"));
    }

    /// The parser reads an unterminated `"""` as an empty string and continues after it.
    #[test]
    fn strings_are_closed() {
        for opening in ["[", "{a:", "(b:"] {
            for string in ["\"\"\" \"", "\"\"\"", "\"\"\"\\\"\"\" ", "\"", "\"\\", "\"\\\"", "\"\n\" \""] {
                let text = format!("{{ a(b:[{string} {} }}", opening.repeat(2_000));
                assert!(matches!(code(&text), Some("GRAPHQL_PARSE_FAILED" | "QUERY_TOO_DEEP")), "{string}");
            }
        }
        assert_eq!(code("{ a(b: \"\", c: \"\"\"\"\"\", d: \"\"\"\n\"\"\", e: \"\\\\\") }"), None);
    }

    #[test]
    fn tokens_and_bytes_are_counted() {
        assert_eq!(code(&"a ".repeat(TOKENS_MAX)), None);
        assert_eq!(code(&"a ".repeat(TOKENS_MAX + 1)), Some("QUERY_TOO_LARGE"));
        assert_eq!(code(&" ".repeat(TEXT_BYTES_MAX + 1)), Some("QUERY_TOO_LARGE"));
    }

    fn argument(text: &str) -> Option<async_graphql_value::Value> {
        let document = async_graphql::parser::parse_query(with_known_escapes(text)).ok()?;
        let (_, operation) = document.operations.iter().next()?;
        match &operation.node.selection_set.node.items.first()?.node {
            async_graphql::parser::types::Selection::Field(field) => Some(field.node.arguments.first()?.1.node.clone()),
            _ => None,
        }
    }

    #[test]
    fn escapes_of_long_characters_are_known() {
        let read = |string: &str| match argument(&format!("{{ a(b: {string}) }}")) {
            Some(async_graphql_value::Value::String(read)) => Some(read),
            _ => None,
        };
        for (string, expected) in [
            (r#""\u{41}\uD83D\uDE00\u{1F600}\u00e9\u{0000e9}""#, "A😀😀éé"),
            (r#""\u{22}\u{5C}\u{a}\"\\""#, "\"\\\n\"\\"),
            // An escaped backslash, and what a block string says as it is.
            (r#""\\uD83D""#, "\\uD83D"),
            (r#""\\u{41}""#, "\\u{41}"),
            (r#""""\uD83D\uDE00 \u{41}""""#, "\\uD83D\\uDE00 \\u{41}"),
        ] {
            assert_eq!(read(string).as_deref(), Some(expected), "{string}");
        }
        for bad in [
            r#""\uD83D""#,
            r#""\uDE00\uD83D""#,
            r#""\uD83D\u0041""#,
            r#""\u{D83D}""#,
            r#""\u{110000}""#,
            r#""\u{}""#,
            r#""\u{+1}""#,
            r#""\u{41""#,
        ] {
            assert_eq!(read(bad), None, "{bad}");
        }
    }

    fn depth(value: &async_graphql_value::Value) -> usize {
        match value {
            async_graphql_value::Value::List(items) => 1 + items.iter().map(depth).max().unwrap_or_default(),
            _ => 0,
        }
    }

    proptest! {
        #[test]
        fn any_text_can_be_written_in_escapes_of_16_bits(text in any::<String>()) {
            let escaped: String = text.encode_utf16().map(|unit| format!("\\u{unit:04x}")).collect();
            let read = argument(&format!("{{ a(b: \"{escaped}\") }}"));
            prop_assert_eq!(read, Some(async_graphql_value::Value::String(text)));
        }

        #[test]
        fn any_text_is_scanned(text in "[\\[{(\"\\\\#\n a\u{e9}]{0,200}") {
            let _ = scan(&text);
        }

        /// Whatever the strings, a document that the parser accepts is not nested deeper than counted.
        #[test]
        fn nothing_is_hidden_in_strings(parts in proptest::collection::vec("\"{1,4}|\\\\|\\[{1,30}|\\]{1,30}|\n|#| a", 0..40)) {
            let text = format!("{{ a(b: [{}]) }}", parts.concat());
            if scan(&text).is_ok() && let Ok(document) = async_graphql::parser::parse_query(&text) {
                let (_, operation) = document.operations.iter().next().expect("an operation");
                let selection = &operation.node.selection_set.node.items[0].node;
                let async_graphql::parser::types::Selection::Field(field) = selection else { panic!("no field") };
                prop_assert!(depth(&field.node.arguments[0].1.node) <= NESTING_MAX, "{text}");
            }
        }
    }
}
