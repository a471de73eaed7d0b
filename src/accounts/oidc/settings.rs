//! Provider settings: a TOML file with a table per provider, `SALESPULSE_OIDC_PROVIDERS`.

use std::collections::BTreeMap;

use openidconnect::url::{Host, Url};
use serde::Deserialize;

use crate::auth::Role;

const NAME_CHARS_MAX: usize = 40;

/// Settings of a provider.
#[derive(Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Settings {
    /// The name shown to users.
    pub title: String,
    /// The issuer as in its tokens; everything else is discovered from there.
    pub issuer: String,
    pub client_id: String,
    /// Absent for a public client.
    pub client_secret: Option<String>,
    /// The tenant whose users it knows; absent where users state their tenant.
    pub tenant: Option<String>,
    /// Who is provisioned without an invitation; absent for nobody.
    pub create: Option<Create>,
}

/// Users that are provisioned at their first sign-in.
#[derive(Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Create {
    pub role: Role,
    /// Allowed domains of their addresses, after the @.
    pub domains: Vec<String>,
}

/// Parses the providers of a file. Error: what is wrong and where, without quoting the file's content.
pub fn parse(text: &str) -> Result<BTreeMap<String, Settings>, String> {
    let all: BTreeMap<String, Settings> = toml::from_str(text).map_err(|error| {
        let line = error.span().map_or(1, |span| text[..span.start].matches('\n').count() + 1);
        format!("line {line}: {}", error.message())
    })?;
    for (name, settings) in &all {
        check(name, settings).map_err(|why| format!("{name}: {why}"))?;
    }
    let mut issuers: Vec<_> = all.values().map(|settings| &settings.issuer).collect();
    issuers.sort_unstable();
    if issuers.windows(2).any(|pair| pair[0] == pair[1]) {
        return Err("two providers have the same issuer".to_owned());
    }
    Ok(all)
}

fn check(name: &str, settings: &Settings) -> Result<(), &'static str> {
    let is_plain = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
    if name.is_empty() || name.len() > NAME_CHARS_MAX || !name.chars().all(is_plain) {
        return Err("a provider's name must be 1 to 40 lower-case letters, digits and -, as it is part of URLs");
    }
    if !Url::parse(&settings.issuer).is_ok_and(|url| is_private_way(&url)) {
        return Err("issuer must begin with https:// (or http:// on this machine itself)");
    }
    if settings.client_id.is_empty() || settings.client_secret.as_ref().is_some_and(String::is_empty) {
        return Err("client_id and client_secret must not be empty");
    }
    if let Some(Create { domains, .. }) = &settings.create {
        if settings.tenant.is_none() {
            return Err("`create` requires `tenant`");
        }
        if domains.is_empty() || domains.iter().any(|domain| domain.is_empty() || domain.contains('@')) {
            return Err("create.domains must list the allowed e-mail domains, such as acme.example");
        }
    }
    Ok(())
}

/// Whether the connection cannot be eavesdropped on.
pub fn is_private_way(url: &Url) -> bool {
    let is_here = match url.host() {
        Some(Host::Domain(name)) => name == "localhost",
        Some(Host::Ipv4(ip)) => ip.is_loopback(),
        Some(Host::Ipv6(ip)) => ip.is_loopback(),
        None => false,
    };
    url.scheme() == "https" || url.scheme() == "http" && is_here
}

#[cfg(test)]
mod tests {
    use super::*;

    const GOOD: &str = "[acme-id]\ntitle = \"Acme\"\nissuer = \"https://id.acme.example\"\nclient_id = \"us\"\nclient_secret = \"hush\"\n";

    #[test]
    fn a_provider_is_a_table() {
        let text = format!("{GOOD}tenant = \"acme\"\ncreate = {{ role = \"viewer\", domains = [\"acme.example\"] }}\n");
        let all = parse(&text).unwrap_or_else(|why| panic!("{why}"));
        assert_eq!(all["acme-id"].create.as_ref().map(|create| create.role), Some(Role::Viewer));
    }

    #[test]
    fn what_is_wrong_is_told_without_secrets() {
        let create = "create = { role = \"viewer\", domains = [\"acme.example\"] }\n";
        for (text, why) in [
            (GOOD.replace("acme-id", "Acme"), "Acme: a provider's name"),
            (GOOD.replace("https://id", "http://id"), "acme-id: issuer must begin"),
            (GOOD.replace("\"us\"", "\"\""), "acme-id: client_id"),
            (format!("{GOOD}{create}"), "acme-id: `create` requires `tenant`"),
            (
                format!("{GOOD}tenant = \"acme\"\n{}", create.replace("[\"acme.example\"]", "[]")),
                "acme-id: create.domains",
            ),
            (GOOD.replace("client_secret = ", "client_secret "), "line 5"),
            (GOOD.replace("client_secret", "clientsecret"), "line 5: unknown field"),
            (format!("{GOOD}{}", GOOD.replace("acme-id", "again")), "two providers have the same issuer"),
        ] {
            let told = parse(&text).err().expect(why);
            assert!(told.starts_with(why) && !told.contains("hush"), "{told}");
        }
    }
}
