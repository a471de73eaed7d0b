//! Passwords: argon2id with the parameters OWASP recommends (19 MiB, 2 passes, 1 lane), with bounded concurrency.

use std::sync::{Arc, OnceLock};
use std::time::Duration;

use argon2::Argon2;
use argon2::password_hash::rand_core::OsRng;
use argon2::password_hash::{PasswordHash, PasswordHasher, PasswordVerifier, SaltString};
use tokio::sync::Semaphore;

use crate::error::{Code, Error, Result};

const CHARS: std::ops::RangeInclusive<usize> = 12..=128;
/// Each hash takes 19 MiB and a core for some milliseconds.
const AT_ONCE: usize = 2;
/// How long a request waits for its turn.
const TURN_WAIT: Duration = Duration::from_secs(5);

/// Hashes and verifies passwords. Cheap to clone.
#[derive(Clone)]
pub struct Passwords {
    turns: Arc<Semaphore>,
    /// The hash to verify against where there is no user, so that the response takes equally long.
    nobody: Arc<OnceLock<String>>,
}

impl Default for Passwords {
    fn default() -> Self {
        Passwords { turns: Arc::new(Semaphore::new(AT_ONCE)), nobody: Arc::default() }
    }
}

impl Passwords {
    pub async fn hash(&self, password: String) -> Result<String> {
        self.run(move || hash(&password)).await?
    }

    /// Verifies a password against `hash`; `None`, for a user that does not exist, takes equally long.
    pub async fn is(&self, password: String, hash: Option<String>) -> Result<bool> {
        let nobody = Arc::clone(&self.nobody);
        self.run(move || {
            let is_somebody = hash.is_some();
            let hash = hash.unwrap_or_else(|| nobody.get_or_init(|| self::hash("nobody").unwrap_or_default()).clone());
            let is_right = PasswordHash::new(&hash)
                .is_ok_and(|hash| Argon2::default().verify_password(password.as_bytes(), &hash).is_ok());
            is_right && is_somebody
        })
        .await
    }

    async fn run<T: Send + 'static>(&self, work: impl FnOnce() -> T + Send + 'static) -> Result<T> {
        let turn = tokio::time::timeout(TURN_WAIT, Arc::clone(&self.turns).acquire_owned()).await;
        let turn = turn.map_err(|_| Error::new(Code::ServiceUnavailable, "too many sign-ins at once; try again"))?;
        let turn = turn.map_err(Error::internal)?;
        // The permit is held until the work is done, even if the caller has gone.
        let work = move || {
            let _turn = turn;
            work()
        };
        tokio::task::spawn_blocking(work).await.map_err(Error::internal)
    }
}

fn hash(password: &str) -> Result<String> {
    let salt = SaltString::generate(&mut OsRng);
    let hash = Argon2::default().hash_password(password.as_bytes(), &salt);
    Ok(hash.map_err(|error| Error::internal(error.to_string()))?.to_string())
}

/// Validates the new password in `argument`: its length, not the user's address, and not one repeated character. Error:
/// BAD_USER_INPUT.
pub fn check_new(argument: &'static str, password: &str, email: &str) -> Result<()> {
    let chars = password.chars().count();
    if !CHARS.contains(&chars) {
        let message = format!("a password must have {} to {} characters", CHARS.start(), CHARS.end());
        return Err(Error::bad_input(argument, message));
    }
    let first = password.chars().next();
    if password.eq_ignore_ascii_case(email) || password.chars().all(|c| Some(c) == first) {
        return Err(Error::bad_input(argument, "that password is too easily guessed"));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_password_is_known_by_its_hash_alone() {
        let passwords = Passwords::default();
        let hash = passwords.hash("correct horse battery".into()).await.expect("hashed");
        assert!(hash.starts_with("$argon2id$v=19$m=19456,t=2,p=1$"), "{hash}");
        assert!(passwords.is("correct horse battery".into(), Some(hash.clone())).await.expect("compared"));
        assert!(!passwords.is("correct horse".into(), Some(hash)).await.expect("compared"));
        // Where there is no user, it compares with a hash that is as costly.
        assert!(passwords.nobody.get().is_none());
        assert!(!passwords.is("nobody".into(), None).await.expect("compared"));
        let nobody = passwords.nobody.get().expect("hashed");
        assert!(nobody.starts_with("$argon2id$v=19$m=19456,t=2,p=1$"), "{nobody}");
    }

    #[test]
    fn passwords_that_are_guessed_are_none() {
        for bad in ["short", "aaaaaaaaaaaaaaaa", "ann@acme.example"] {
            assert!(check_new("password", bad, "Ann@acme.example").is_err(), "{bad}");
        }
        assert!(check_new("password", "correct horse battery", "ann@acme.example").is_ok());
    }
}
