//! Where a request comes from: the network address and the browser origin.

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use axum::http::request::Parts;
use axum::http::{HeaderName, HeaderValue, Method, header};
use reqwest::Url;
use tower_http::cors::{AllowHeaders, CorsLayer};

use crate::auth::sessions::Client;

const AGENT_CHARS_MAX: usize = 200;
/// How long browsers may cache a preflight response. Some cap it lower anyway.
const CROSS_ORIGIN_MAX_AGE: Duration = Duration::from_secs(2 * 60 * 60);

/// The peer of the connection.
#[derive(Clone, Copy)]
pub struct Peer {
    pub address: SocketAddr,
    /// Whether this server terminates TLS for the connection.
    pub is_encrypted: bool,
}

/// Parses an origin exactly as browsers send it: scheme, host, and port where it is not the default.
pub fn parse_origin(origin: &str) -> Option<HeaderValue> {
    let url = Url::parse(origin).ok()?;
    let is_web = ["http", "https"].contains(&url.scheme()) && !origin.contains('*');
    let is_exact = is_web && url.origin().ascii_serialization() == origin;
    is_exact.then(|| HeaderValue::from_str(origin).ok()).flatten()
}

/// CORS for these origins. Tokens are in headers, so credentials (cookies) are not allowed; any header is, since
/// non-browser clients can send them all as well.
pub fn cross_origin(origins: &[HeaderValue]) -> CorsLayer {
    CorsLayer::new()
        .allow_origin(origins.to_vec())
        .allow_methods([Method::GET, Method::POST])
        .allow_headers(AllowHeaders::mirror_request())
        .expose_headers([header::RETRY_AFTER, HeaderName::from_static("x-request-id")])
        .max_age(CROSS_ORIGIN_MAX_AGE)
}

/// Whether the browser reports an origin that is neither the server's nor allowed. Other clients send no `Origin`. A
/// page loaded without TLS is foreign to a server with TLS: anybody on the path may have written it.
pub fn is_foreign(parts: &Parts, allowed: &[HeaderValue]) -> bool {
    if parts.headers.get(header::ORIGIN).is_some_and(|origin| allowed.contains(origin)) {
        return false;
    }
    let text = |name| parts.headers.get(name).map(|value: &HeaderValue| value.to_str().unwrap_or_default());
    let Some(origin) = text(header::ORIGIN) else { return false };
    let host = text(header::HOST).or_else(|| parts.uri.authority().map(|authority| authority.as_str()));
    let Some((scheme, origin_host)) = origin.split_once("://") else { return true };
    let is_encrypted = parts.extensions.get::<Peer>().is_some_and(|peer| peer.is_encrypted);
    Some(origin_host) != host || is_encrypted && scheme != "https"
}

/// The client: the nearest address that is not one of our proxies, since anything forwarded before that can be forged.
pub fn client_of(parts: &Parts, proxies: &[IpAddr]) -> Client {
    let peer = parts.extensions.get::<Peer>().map(|peer| peer.address.ip().to_canonical());
    let mut address = peer;
    if peer.is_some_and(|peer| proxies.contains(&peer)) {
        let forwarded = parts.headers.get_all("x-forwarded-for").iter().filter_map(|value| value.to_str().ok());
        let forwarded: Vec<&str> = forwarded.flat_map(|value| value.split(',')).map(str::trim).collect();
        let addresses = forwarded.iter().rev().map(|text| address_of(text));
        address = addresses.take_while(Option::is_some).flatten().find(|ip| !proxies.contains(ip)).or(peer);
    }
    let agent = parts.headers.get(header::USER_AGENT).and_then(|value| value.to_str().ok());
    Client { address, agent: agent.map(|agent| agent.chars().take(AGENT_CHARS_MAX).collect()) }
}

/// An address as proxies write it, some with the port.
fn address_of(text: &str) -> Option<IpAddr> {
    let with_port = || text.parse().ok().map(|address: SocketAddr| address.ip());
    text.parse().ok().or_else(with_port).map(|ip: IpAddr| ip.to_canonical())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn address(peer: &str, forwarded: &[&str]) -> String {
        let mut request = axum::http::Request::builder();
        for value in forwarded {
            request = request.header("x-forwarded-for", *value);
        }
        let (mut parts, ()) = request.body(()).expect("a request").into_parts();
        let address = format!("{peer}:1").parse().expect("an address");
        parts.extensions.insert(Peer { address, is_encrypted: false });
        let proxies = ["10.0.0.1", "10.0.0.2"].map(|ip| ip.parse().expect("an address"));
        client_of(&parts, &proxies).address.expect("an address").to_string()
    }

    #[test]
    fn only_our_own_proxies_say_for_whom_they_speak() {
        assert_eq!(address("1.2.3.4", &["9.9.9.9"]), "1.2.3.4");
        assert_eq!(address("10.0.0.1", &["9.9.9.9, 1.2.3.4"]), "1.2.3.4");
        assert_eq!(address("10.0.0.1", &["9.9.9.9", "1.2.3.4, 10.0.0.2"]), "1.2.3.4");
        assert_eq!(address("10.0.0.1", &["1.2.3.4, nonsense"]), "10.0.0.1");
        assert_eq!(address("10.0.0.1", &[]), "10.0.0.1");
    }

    #[test]
    fn a_page_is_foreign_to_another_host_and_to_encryption_that_it_lacks() {
        let is_foreign = |origin: &str, is_encrypted| {
            let request = axum::http::Request::get("/").header("host", "sales.example").header("origin", origin);
            let (mut parts, ()) = request.body(()).expect("a request").into_parts();
            let address = "1.2.3.4:1".parse().expect("an address");
            parts.extensions.insert(Peer { address, is_encrypted });
            super::is_foreign(&parts, &[HeaderValue::from_static("https://shop.example")])
        };
        assert!(!is_foreign("https://sales.example", true) && is_foreign("http://sales.example", true));
        // Behind a proxy it is unknown whether the client's connection is encrypted.
        assert!(!is_foreign("https://sales.example", false) && !is_foreign("http://sales.example", false));
        assert!(is_foreign("https://evil.example", true) && is_foreign("null", false));
        // Allowed origins match exactly.
        assert!(!is_foreign("https://shop.example", true) && !is_foreign("https://shop.example", false));
        assert!(is_foreign("http://shop.example", false) && is_foreign("https://shop.example:8443", true));
    }

    #[test]
    fn origins_are_named_as_browsers_send_them() {
        for good in ["https://shop.example", "http://localhost:5173", "https://[::1]:8443"] {
            assert_eq!(parse_origin(good).expect(good), good);
        }
        for bad in [
            "*",
            "null",
            "shop.example",
            "https://shop.example/",
            "https://shop.example:443",
            "https://Shop.example",
            "https://*.shop.example",
            "https://ann@shop.example",
            "ws://shop.example",
            "file://shop.example",
            "https://shop.example, *",
            "",
        ] {
            assert_eq!(parse_origin(bad), None, "{bad}");
        }
    }
}
