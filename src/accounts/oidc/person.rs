//! A person as identified by a provider.

use openidconnect::core::{CoreIdTokenClaims, CoreUserInfoClaims};

use crate::users::email_of;

/// A person as identified by their provider.
#[derive(Debug)]
pub struct Person {
    /// The provider's subject identifier, never reassigned.
    pub subject: String,
    /// The address, if verified by the provider. An unverified one could be anybody's.
    pub email: Option<String>,
    pub name: Option<String>,
}

impl Person {
    pub fn of_token(claims: &CoreIdTokenClaims) -> Self {
        Person {
            subject: claims.subject().to_string(),
            email: verified(claims.email().map(|email| email.as_str()), claims.email_verified()),
            name: claims.name().and_then(|name| name.get(None)).map(|name| name.to_string()),
        }
    }

    /// Falls back to the UserInfo response for what the token does not contain.
    pub fn or(self, claims: &CoreUserInfoClaims) -> Self {
        let email = verified(claims.email().map(|email| email.as_str()), claims.email_verified());
        let name = claims.name().and_then(|name| name.get(None)).map(|name| name.to_string());
        Person { email: self.email.or(email), name: self.name.or(name), ..self }
    }
}

fn verified(email: Option<&str>, is_verified: Option<bool>) -> Option<String> {
    email.filter(|_| is_verified == Some(true)).and_then(|email| email_of(email).ok())
}
