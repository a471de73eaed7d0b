//! Checks on a document before it reaches the parser, which recurses with the nesting of its text.

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
    let bytes = text.as_bytes();
    let (mut at, mut tokens, mut nesting) = (0, 0usize, 0usize);
    while let Some(byte) = bytes.get(at) {
        at = match byte {
            b' ' | b'\t' | b'\r' | b'\n' | b',' => at + 1,
            b'#' => end_of_line(bytes, at),
            _ => {
                tokens += 1;
                match byte {
                    b'{' | b'[' | b'(' => nesting += 1,
                    b'}' | b']' | b')' => nesting = nesting.saturating_sub(1),
                    _ => {}
                }
                end_of_token(bytes, at)
                    .ok_or_else(|| Refusal::new("GRAPHQL_PARSE_FAILED", "a string of the document is not closed"))?
            }
        };
        if nesting > NESTING_MAX {
            return Err(Refusal::new("QUERY_TOO_DEEP", format!("more than {NESTING_MAX} brackets are open at once")));
        }
        if tokens > TOKENS_MAX {
            return Err(Refusal::new("QUERY_TOO_LARGE", format!("the document has more than {TOKENS_MAX} tokens")));
        }
    }
    Ok(())
}

fn end_of_line(bytes: &[u8], from: usize) -> usize {
    bytes[from..].iter().position(|byte| matches!(byte, b'\n' | b'\r')).map_or(bytes.len(), |length| from + length)
}

/// The end of the token at `from`; `None` for an unterminated string.
fn end_of_token(bytes: &[u8], from: usize) -> Option<usize> {
    let rest = &bytes[from..];
    if rest.starts_with(b"\"\"\"") {
        return end_of_string(bytes, from + 3, b"\"\"\"", b"\\\"\"\"");
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

    fn depth(value: &async_graphql_value::Value) -> usize {
        match value {
            async_graphql_value::Value::List(items) => 1 + items.iter().map(depth).max().unwrap_or_default(),
            _ => 0,
        }
    }

    proptest! {
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
