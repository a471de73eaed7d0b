//! The secrets of one tenant, shown to the other: passwords, API keys, refresh tokens, signatures of webhooks.

use serde_json::Value as Json;

use super::Run;
use super::answers::code;
use super::canary::{self, Canary, SECRET};
use super::client::Transport;
use crate::error::Result;

impl Run<'_> {
    /// A user of both tenants can sign in to each with its own password only.
    pub(super) async fn sign_in_elsewhere(&mut self, own: &Canary, other: &Canary) -> Result<()> {
        let (slug, password, email) = (other.slug, &own.password, canary::EMAIL);
        let document = format!(
            r#"mutation {{ login(tenant: "{slug}", email: "{email}", password: "{password}") {{ accessToken }} }}"#
        );
        let answer = self.client.ask(Transport::Post, "", &document).await?;
        if answer["errors"].is_null() {
            self.report.findings.push("a password of one tenant is valid in another".to_owned());
        }
        self.show_secrets_elsewhere(own, other).await
    }

    /// An API key or a refresh token altered to name the other tenant is invalid.
    async fn show_secrets_elsewhere(&mut self, own: &Canary, other: &Canary) -> Result<()> {
        let elsewhere = |secret: &Json| {
            let secret = secret.as_str().unwrap_or_default();
            secret.replace(&own.tenant.0.simple().to_string(), &other.tenant.0.simple().to_string())
        };
        let token = own.token(self.app)?;
        let made = r#"mutation { createApiKey(input: { name: "tried", permissions: [SALES_VIEW] }) { secret } }"#;
        let login =
            r#"mutation { login(tenant: "{slug}", email: "{email}", password: "{password}") { refreshToken } }"#;
        let change = async |template| {
            own.change(&self.client, &token, &own.written(template, &self.name, self.app.clock.now())).await
        };
        let key = elsewhere(&change(made).await?["createApiKey"]["secret"]);
        let refresh = elsewhere(&change(login).await?["login"]["refreshToken"]);
        let document = format!(r#"mutation {{ refresh(refreshToken: "{refresh}") {{ accessToken }} }}"#);
        for (what, token, document) in
            [("an API key", key.as_str(), "{ me { id } }"), ("a refresh token", "", &document)]
        {
            let answer = self.client.ask(Transport::Post, token, document).await?;
            if !["UNAUTHENTICATED", "INVALID_GRANT"].contains(&code(&answer).unwrap_or_default()) {
                self.report.findings.push(format!("{what} of one tenant is answered in another by {answer}"));
            }
        }
        Ok(())
    }

    /// A shop of one tenant is unknown at the other's webhook URL, though both share the secret.
    pub(super) async fn send_elsewhere(
        &mut self,
        own: &Canary,
        other: &Canary,
        shops: [Option<String>; 2],
    ) -> Result<()> {
        let [Some(own_shop), Some(other_shop)] = shops else {
            self.report.findings.push("not tested: there is no shop in both tenants".to_owned());
            return Ok(());
        };
        for (tenant, shop, expected) in
            [(own, &own_shop, 200), (other, &other_shop, 200), (own, &other_shop, 401), (other, &own_shop, 401)]
        {
            let path = format!("/webhooks/{}/{shop}", tenant.tenant.0);
            let status = self.client.send_as_shop(&path, SECRET, "{}").await?;
            if status != expected {
                self.report
                    .findings
                    .push(format!("a shop that sends to {path} is answered {status} and not {expected}"));
            }
        }
        Ok(())
    }
}
