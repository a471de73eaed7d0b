//! Who a provider says somebody is.

use openidconnect::core::{CoreIdTokenClaims, CoreUserInfoClaims};

use crate::accounts::email_of;

/// Somebody, as their provider knows them.
#[derive(Debug)]
pub struct Person {
    /// What the provider never gives to anybody else.
    pub subject: String,
    /// The address, if the provider says that it has verified it. Others are anybody's.
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

    /// With what the provider tells on asking where the token does not.
    pub fn or(self, claims: &CoreUserInfoClaims) -> Self {
        let email = verified(claims.email().map(|email| email.as_str()), claims.email_verified());
        let name = claims.name().and_then(|name| name.get(None)).map(|name| name.to_string());
        Person { email: self.email.or(email), name: self.name.or(name), ..self }
    }
}

fn verified(email: Option<&str>, is_verified: Option<bool>) -> Option<String> {
    email.filter(|_| is_verified == Some(true)).and_then(|email| email_of(email).ok())
}
