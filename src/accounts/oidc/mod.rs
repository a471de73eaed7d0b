//! Sign-in with OpenID Connect: the authorization code flow with PKCE (OpenID Connect Core 1.0, RFC 7636, RFC 9207).
//! The provider establishes who somebody is; whether they have access, and to which tenant, is decided here.

mod fetch;
mod flow;
pub mod graphql;
pub mod http;
pub(super) mod identities;
mod person;
mod provider;
pub mod settings;
mod sign_in;

use std::collections::BTreeMap;
use std::sync::Arc;

use provider::Provider;
pub use settings::Settings;

/// The configured providers, by their names in URLs. Cheap to clone.
#[derive(Clone, Default)]
pub struct Providers(Arc<BTreeMap<String, Provider>>);

impl Providers {
    /// Providers redirect back to `public_url`. Error: the message of a client that cannot be created.
    pub fn new(all: BTreeMap<String, Settings>, public_url: &str) -> Result<Self, String> {
        let providers = all.into_iter().map(|(name, settings)| {
            let provider = Provider::new(&name, settings, public_url)?;
            Ok((name, provider))
        });
        Ok(Providers(Arc::new(providers.collect::<Result<_, String>>()?)))
    }

    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    fn get(&self, name: &str) -> Option<&Provider> {
        self.0.get(name)
    }

    fn of_issuer(&self, issuer: &str) -> Option<&Provider> {
        self.0.values().find(|provider| provider.issuer() == issuer)
    }
}
