//! Content negotiation by the `Accept` header (RFC 9110, section 12.5.1).

use axum::http::HeaderMap;
use axum::http::header::ACCEPT;

/// Wire format of a response.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// `application/json`: request errors are 200.
    Json,
    /// `application/graphql-response+json`: request errors are 4xx.
    ResponseJson,
    /// `text/event-stream`: graphql-sse in distinct connections mode.
    Events,
    /// `multipart/mixed`: Apollo's subscriptions.
    Multipart,
}

impl Format {
    fn media_type(self) -> (&'static str, &'static str) {
        match self {
            Format::Json => ("application", "json"),
            Format::ResponseJson => ("application", "graphql-response+json"),
            Format::Events => ("text", "event-stream"),
            Format::Multipart => ("multipart", "mixed"),
        }
    }
}

/// The media types a client accepts.
pub struct Accepted {
    /// `None` without an `Accept` header.
    ranges: Option<Vec<Range>>,
}

impl Accepted {
    pub fn of(headers: &HeaderMap) -> Accepted {
        let values = headers.get_all(ACCEPT).iter().filter_map(|value| value.to_str().ok());
        let ranges = headers.contains_key(ACCEPT);
        Accepted {
            ranges: ranges.then(|| values.flat_map(|value| value.split(',')).filter_map(Range::parse).collect()),
        }
    }

    /// The format for a single response; JSON where the client has no preference. `None` when nothing is acceptable.
    pub fn for_answer(&self) -> Option<Format> {
        if self.ranges.is_none() {
            return Some(Format::Json);
        }
        self.best(&[Format::Json, Format::ResponseJson]).or_else(|| self.for_stream())
    }

    /// The format for a subscription, which must be named explicitly: a client that accepts anything (`*/*`) cannot
    /// necessarily read a stream. Server-sent events win where both are accepted.
    pub fn for_stream(&self) -> Option<Format> {
        self.best(&[Format::Multipart, Format::Events])
    }

    fn best(&self, formats: &[Format]) -> Option<Format> {
        let ranked = formats.iter().filter_map(|format| {
            let range =
                self.ranges.iter().flatten().filter(|range| range.matches(*format)).max_by_key(|r| r.precision())?;
            let is_named = range.precision() == 2;
            let is_stream = matches!(format, Format::Events | Format::Multipart);
            // A client that names both kinds of JSON knows the newer one; one that names neither may not.
            let is_preferred = (*format == Format::ResponseJson) == is_named;
            let is_good = range.quality > 0 && (is_named || !is_stream);
            is_good.then_some(((range.quality, range.precision(), is_preferred), *format))
        });
        ranked.max_by_key(|(rank, _)| *rank).map(|(_, format)| format)
    }
}

/// A media range.
struct Range {
    kind: String,
    subtype: String,
    /// In thousandths.
    quality: u32,
}

impl Range {
    fn parse(text: &str) -> Option<Range> {
        let mut parts = text.split(';').map(str::trim);
        let (kind, subtype) = parts.next()?.split_once('/')?;
        let mut quality = 1000;
        for parameter in parts {
            if let Some((name, value)) = parameter.split_once('=')
                && name.trim().eq_ignore_ascii_case("q")
            {
                quality = thousandths(value.trim())?;
            }
        }
        Some(Range { kind: kind.trim().to_ascii_lowercase(), subtype: subtype.trim().to_ascii_lowercase(), quality })
    }

    fn matches(&self, format: Format) -> bool {
        let (kind, subtype) = format.media_type();
        match (self.kind.as_str(), self.subtype.as_str()) {
            ("*", "*") => true,
            (own, "*") => own == kind,
            (own, own_subtype) => own == kind && own_subtype == subtype,
        }
    }

    /// Specificity with which a range names a type.
    fn precision(&self) -> u8 {
        match (self.kind.as_str(), self.subtype.as_str()) {
            ("*", _) => 0,
            (_, "*") => 1,
            _ => 2,
        }
    }
}

/// A quality from 0 to 1 with at most three decimals.
fn thousandths(text: &str) -> Option<u32> {
    let (whole, decimals) = text.split_once('.').unwrap_or((text, ""));
    let is_number = |text: &str| text.bytes().all(|byte| byte.is_ascii_digit());
    if !matches!(whole, "0" | "1") || decimals.len() > 3 || !is_number(decimals) {
        return None;
    }
    let decimals: u32 = format!("{decimals:0<3}").parse().ok()?;
    let quality = if whole == "1" { 1000 + decimals } else { decimals };
    (quality <= 1000).then_some(quality)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(accept: &str) -> Accepted {
        let mut headers = HeaderMap::new();
        headers.insert(ACCEPT, accept.parse().expect("a header"));
        Accepted::of(&headers)
    }

    #[test]
    fn the_best_liked_format_is_chosen() {
        assert_eq!(Accepted::of(&HeaderMap::new()).for_answer(), Some(Format::Json));
        for (accept, expected) in [
            ("*/*", Some(Format::Json)),
            ("application/*", Some(Format::Json)),
            ("application/json", Some(Format::Json)),
            ("APPLICATION/JSON; charset=utf-8", Some(Format::Json)),
            ("application/graphql-response+json", Some(Format::ResponseJson)),
            ("application/graphql-response+json, application/json", Some(Format::ResponseJson)),
            ("application/json, application/graphql-response+json;q=0.9", Some(Format::Json)),
            ("application/graphql-response+json, */*;q=0.1", Some(Format::ResponseJson)),
            ("application/json;q=0, */*", Some(Format::ResponseJson)),
            ("text/event-stream", Some(Format::Events)),
            ("application/json, multipart/mixed", Some(Format::Json)),
            ("text/*", None),
            ("image/png", None),
            ("application/json;q=0", None),
            ("*/*;q=0", None),
            ("", None),
        ] {
            assert_eq!(of(accept).for_answer(), expected, "{accept}");
        }
    }

    #[test]
    fn a_stream_must_be_named() {
        for (accept, expected) in [
            ("*/*", None),
            ("application/json", None),
            ("text/event-stream", Some(Format::Events)),
            (
                "multipart/mixed;boundary=\"graphql\";subscriptionSpec=1.0,application/json;q=0.9",
                Some(Format::Multipart),
            ),
            ("multipart/mixed;q=0.5, text/event-stream", Some(Format::Events)),
            ("text/event-stream, multipart/mixed", Some(Format::Events)),
        ] {
            assert_eq!(of(accept).for_stream(), expected, "{accept}");
        }
    }
}
