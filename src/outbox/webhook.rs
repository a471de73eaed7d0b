//! Outgoing webhooks: JSON by POST, signed by the Standard Webhooks specification (standardwebhooks.com), to public
//! addresses only.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time::Duration;

use base64::engine::general_purpose::{GeneralPurpose, GeneralPurposeConfig, STANDARD};
use base64::engine::{DecodePaddingMode, Engine};
use hmac::Mac;
use reqwest::{Client, StatusCode, Url, redirect};

use super::{Attempt, SendError};
use crate::clock::{SECOND, Timestamp};
use crate::mac::keyed;

const ANSWER_WAIT: Duration = Duration::from_secs(5);
/// Prefix of base64-encoded secrets.
const BASE64_PREFIX: &str = "whsec_";
/// Base64 of secrets, with or without padding.
const BASE64: GeneralPurpose = GeneralPurpose::new(
    &base64::alphabet::STANDARD,
    GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent),
);

/// Sends one attempt. Anything but 2xx is a failure; 410 is a permanent one.
pub async fn send(attempt: &Attempt, allows_private: bool, now: Timestamp) -> Result<(), SendError> {
    let refused = |why: &str| SendError::Refused(why.to_owned());
    let url = Url::parse(&attempt.recipient.target).map_err(|_| refused("not a URL"))?;
    if url.scheme() != "https" && !allows_private {
        return Err(refused("webhooks must use https"));
    }
    let host = url.host_str().ok_or_else(|| refused("a URL without a host"))?.to_owned();
    // Resolved once, so that the connection is to the address that was checked.
    let addresses = addresses_of(&url, &host).await?;
    if !allows_private && addresses.iter().any(|address| !is_public(address.ip())) {
        return Err(refused("webhooks cannot be sent to private addresses"));
    }
    let client = Client::builder()
        .redirect(redirect::Policy::none())
        .timeout(ANSWER_WAIT)
        .no_proxy()
        .resolve_to_addrs(&host, &addresses)
        .build()
        .map_err(|error| SendError::Failed(format!("no client: {error}")))?;
    let seconds = now.0.div_euclid(SECOND);
    let id = attempt.id.to_string();
    let secret = attempt.recipient.secret.as_deref().unwrap_or_default();
    let response = client
        .post(url)
        .header("content-type", "application/json")
        .header("idempotency-key", &id)
        .header("webhook-id", &id)
        .header("webhook-timestamp", seconds)
        .header("webhook-signature", signature(secret, &id, seconds, &attempt.body))
        .body(attempt.body.clone())
        .send()
        .await
        .map_err(|error| SendError::Failed(reason(&error)))?;
    match response.status() {
        status if status.is_success() => Ok(()),
        StatusCode::GONE => Err(refused("the receiver answered 410")),
        status => Err(SendError::Failed(format!("the receiver answered {}", status.as_u16()))),
    }
}

/// The cause of the failure, without the URL, which may contain a secret.
fn reason(error: &reqwest::Error) -> String {
    let why = match error {
        error if error.is_timeout() => "no answer in time",
        error if error.is_connect() => "cannot connect",
        _ => "no answer",
    };
    why.to_owned()
}

async fn addresses_of(url: &Url, host: &str) -> Result<Vec<SocketAddr>, SendError> {
    let port = url.port_or_known_default().unwrap_or(443);
    if let Ok(ip) = host.trim_matches(['[', ']']).parse::<IpAddr>() {
        return Ok(vec![SocketAddr::new(ip, port)]);
    }
    let found = tokio::time::timeout(ANSWER_WAIT, tokio::net::lookup_host((host, port))).await;
    let addresses: Vec<SocketAddr> = found.ok().and_then(Result::ok).map(Iterator::collect).unwrap_or_default();
    if addresses.is_empty() { Err(SendError::Failed("the host is not known".to_owned())) } else { Ok(addresses) }
}

/// Checks a secret for incoming or outgoing webhooks. Error: what it must be.
pub fn check_secret(secret: &str) -> Result<(), &'static str> {
    // It would be taken literally, which the other side does not do.
    let is_key = secret.strip_prefix(BASE64_PREFIX).is_none_or(|text| BASE64.decode(text).is_ok());
    if is_key { Ok(()) } else { Err("what follows whsec_ must be base64") }
}

/// The key that a secret encodes, for incoming and outgoing webhooks.
pub fn signing_key(secret: &str) -> Vec<u8> {
    let decoded = secret.strip_prefix(BASE64_PREFIX).and_then(|text| BASE64.decode(text).ok());
    decoded.unwrap_or_else(|| secret.as_bytes().to_vec())
}

/// `v1,` and the base64 HMAC-SHA256 of id, timestamp and body.
fn signature(secret: &str, id: &str, seconds: i64, body: &str) -> String {
    let tag = keyed(&signing_key(secret)).chain_update(format!("{id}.{seconds}.{body}")).finalize().into_bytes();
    format!("v1,{}", STANDARD.encode(tag))
}

/// Whether an address is on the public internet.
fn is_public(ip: IpAddr) -> bool {
    match ip {
        IpAddr::V4(ip) => is_public_v4(ip),
        IpAddr::V6(ip) => match ip.to_ipv4_mapped() {
            Some(ip) => is_public_v4(ip),
            None => is_public_v6(ip),
        },
    }
}

fn is_public_v4(ip: Ipv4Addr) -> bool {
    let [a, b, c, _] = ip.octets();
    let is_shared = a == 100 && (64..128).contains(&b);
    let is_of_protocols = a == 192 && b == 0 && c == 0;
    let is_for_tests = a == 198 && (b == 18 || b == 19);
    !(ip.is_private()
        || ip.is_loopback()
        || ip.is_link_local()
        || ip.is_documentation()
        || is_shared
        || is_of_protocols
        || is_for_tests
        || a == 0
        || a >= 224)
}

fn is_public_v6(ip: Ipv6Addr) -> bool {
    // The global unicast block, except for ranges that embed IPv4 addresses (Teredo, 6to4) and documentation.
    let [first, second, ..] = ip.segments();
    (0x2000..0x4000).contains(&first) && first != 0x2002 && !(first == 0x2001 && (second == 0 || second == 0xdb8))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn signatures_are_those_of_the_specification() {
        // The example used by the specification's libraries.
        let secret = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";
        let (id, seconds, body) = ("msg_p5jXN8AQM9LWM0D4loKWxJek", 1_614_265_330, r#"{"test": 2432232314}"#);
        assert_eq!(signature(secret, id, seconds, body), "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=");
    }

    #[test]
    fn a_secret_is_base64_with_or_without_its_padding() {
        let key = b"a secret of twenty-five b".to_vec();
        for secret in ["whsec_YSBzZWNyZXQgb2YgdHdlbnR5LWZpdmUgYg==", "whsec_YSBzZWNyZXQgb2YgdHdlbnR5LWZpdmUgYg"] {
            assert_eq!((check_secret(secret), signing_key(secret)), (Ok(()), key.clone()), "{secret}");
        }
        assert!(check_secret("whsec_this is no base64").is_err());
        assert_eq!(check_secret("this is no base64"), Ok(()));
    }

    #[test]
    fn private_addresses_are_told_from_public_ones() {
        for private in [
            "127.0.0.1",
            "10.1.2.3",
            "172.16.0.1",
            "192.168.1.1",
            "169.254.169.254",
            "100.64.0.1",
            "0.0.0.0",
            "224.0.0.1",
            "255.255.255.255",
            "198.18.0.1",
            "192.0.0.8",
            "::1",
            "::",
            "fe80::1",
            "fd00::1",
            "ff02::1",
            "::ffff:10.0.0.1",
            "64:ff9b::a00:1",
            "2002:a00:1::",
            "2001:db8::1",
            "2001::1",
        ] {
            assert!(!is_public(private.parse().expect("an address")), "{private}");
        }
        for public in ["1.1.1.1", "8.8.8.8", "172.32.0.1", "100.128.0.1", "2606:4700::1111", "::ffff:1.1.1.1"] {
            assert!(is_public(public.parse().expect("an address")), "{public}");
        }
    }
}
