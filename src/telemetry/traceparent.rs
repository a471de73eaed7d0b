//! The `traceparent` header, which identifies the trace of a request (W3C Trace Context, level 1).

/// A span of another process that is the parent of a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TraceParent {
    pub trace_id: u128,
    pub span_id: u64,
    pub is_sampled: bool,
}

impl TraceParent {
    /// `version-trace_id-span_id-flags` in lower-case hexadecimal; later versions may append to it. `None` if
    /// malformed.
    pub fn parse(header: &str) -> Option<TraceParent> {
        let mut parts = header.split('-');
        let mut hex = |digits| {
            let part = parts.next()?;
            let is_hex = part.len() == digits && part.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'));
            u128::from_str_radix(part, 16).ok().filter(|_| is_hex)
        };
        let (version, trace_id, span_id, flags) = (hex(2)?, hex(32)?, hex(16)?, hex(2)?);
        let span_id = u64::try_from(span_id).ok()?;
        let is_good = version != 0xff && trace_id != 0 && span_id != 0 && (version > 0 || parts.next().is_none());
        is_good.then_some(TraceParent { trace_id, span_id, is_sampled: flags & 1 == 1 })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_of_the_form_is_read_and_nothing_else() {
        let good = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";
        let parent = TraceParent::parse(good).expect("good");
        assert_eq!(format!("{:032x} {:016x}", parent.trace_id, parent.span_id), good[3..52].replace('-', " "));
        assert!(parent.is_sampled);
        assert!(!TraceParent::parse(&good.replace("-01", "-02")).expect("good").is_sampled);
        assert!(TraceParent::parse(&format!("cc{}-what-comes", &good[2..])).is_some());
        for bad in [
            String::new(),
            good.to_uppercase(),
            format!("ff{}", &good[2..]),
            format!("{good}-more"),
            good[..54].to_owned(),
            good.replace("b7ad6b7169203331", "0000000000000000"),
            good.replace("0af7651916cd43dd8448eb211c80319c", &"0".repeat(32)),
            good.replace("b7ad", "+7ad"),
        ] {
            assert_eq!(TraceParent::parse(&bad), None, "{bad}");
        }
    }
}
