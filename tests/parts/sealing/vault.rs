//! Wrapping by Vault's transit engine, against a stand-in that speaks its HTTP API.

use std::time::{Duration, Instant};

use super::stand_in::{Key, TOKEN, Vault};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use salespulse::sealing::KeyBytes;
use salespulse::sealing::kek::{
    KekError, KeyEncryption, KeyName, LocalKek, Purpose, SetupError, VaultSettings, VaultTransit,
};
use uuid::Uuid;

const NAME: KeyName = KeyName { tenant: Uuid::from_u128(1), purpose: Purpose::Data, version: 1 };

fn key() -> KeyBytes {
    KeyBytes::new([0x5a; 32])
}

fn settings(address: &str) -> VaultSettings {
    VaultSettings {
        address: address.to_owned(),
        mount: "transit".to_owned(),
        key: "salespulse".to_owned(),
        token: TOKEN.to_owned(),
        authority_pem: None,
        answer_wait: Duration::from_millis(300),
    }
}

fn kek(vault: &Vault) -> VaultTransit {
    VaultTransit::new(&settings(&vault.address)).expect("settings")
}

fn is_bad<T>(result: &Result<T, KekError>, reason: &str) -> bool {
    matches!(result, Err(KekError::BadWrapped(said)) if said.contains(reason))
}

#[tokio::test]
async fn a_key_is_wrapped_with_the_context_of_its_name() {
    let vault = Vault::start().await;
    let kek = kek(&vault);
    let wrapped = kek.wrap(&NAME, &key()).await.expect("wrapped");
    assert!(wrapped.starts_with("vault:transit/salespulse:vault:v1:"), "{wrapped}");
    assert_eq!(kek.unwrap(&NAME, &wrapped).await, Ok(key()));
    let requests = &vault.settings().requests;
    let context = STANDARD.encode("salespulse/00000000-0000-0000-0000-000000000001/data/1");
    assert!(requests.iter().all(|(_, body)| body["context"] == context.as_str()), "{requests:?}");
    assert_eq!(
        requests.iter().map(|(path, _)| path.as_str()).collect::<Vec<_>>(),
        ["encrypt/salespulse", "decrypt/salespulse"]
    );
}

#[tokio::test]
async fn a_key_unwraps_under_its_own_name_only() {
    for is_derived in [true, false] {
        let vault = Vault::start().await;
        vault.settings().keys.insert("salespulse".to_owned(), Key::new(is_derived));
        let kek = kek(&vault);
        let wrapped = kek.wrap(&NAME, &key()).await.expect("wrapped");
        assert_eq!(kek.unwrap(&NAME, &wrapped).await, Ok(key()));
        for other in [
            KeyName { tenant: Uuid::from_u128(2), ..NAME },
            KeyName { purpose: Purpose::Index, ..NAME },
            KeyName { version: 2, ..NAME },
        ] {
            let reason = if is_derived { "message authentication failed" } else { "belongs to another tenant" };
            assert!(is_bad(&kek.unwrap(&other, &wrapped).await, reason), "{other}");
        }
    }
}

#[tokio::test]
async fn rewrapping_takes_the_newest_version_and_the_key_never_comes_out() {
    let vault = Vault::start().await;
    let kek = kek(&vault);
    let first = kek.wrap(&NAME, &key()).await.expect("wrapped");
    vault.settings().keys.get_mut("salespulse").expect("a key").rotate();
    let second = kek.rewrap(&NAME, &first).await.expect("rewrapped");
    assert!(second.starts_with("vault:transit/salespulse:vault:v2:"), "{second}");
    assert_eq!(vault.settings().requests.last().expect("a request").0, "rewrap/salespulse");
    assert_eq!(kek.unwrap(&NAME, &first).await, Ok(key()));
    vault.settings().keys.get_mut("salespulse").expect("a key").min_decryption_version = 2;
    assert!(is_bad(&kek.unwrap(&NAME, &first).await, "too old"));
    assert!(is_bad(&kek.rewrap(&NAME, &first).await, "too old"));
    assert_eq!(kek.unwrap(&NAME, &second).await, Ok(key()));
}

#[tokio::test]
async fn a_bad_ciphertext_is_said_to_be_one() {
    let vault = Vault::start().await;
    let kek = kek(&vault);
    let wrapped = kek.wrap(&NAME, &key()).await.expect("wrapped");
    let changed = wrapped.replacen("vault:v1:", "vault:v1:AAAA", 1);
    assert!(is_bad(&kek.unwrap(&NAME, &changed).await, "400: cipher: message authentication failed"));
    for (ciphertext, reason) in [
        ("", "no prefix"),
        ("vault:v1", "wrong number of fields"),
        ("vault:v9:AAAA", "too new"),
        ("vault:v1:AAAA", "length"),
        ("vault:v1:?", "base64"),
    ] {
        let wrapped = format!("vault:transit/salespulse:{ciphertext}");
        assert!(is_bad(&kek.unwrap(&NAME, &wrapped).await, reason), "{ciphertext}");
    }
}

#[tokio::test]
async fn a_key_wrapped_by_another_is_not_sent_to_vault() {
    let vault = Vault::start().await;
    let kek = kek(&vault);
    let local = LocalKek::from_texts([STANDARD.encode([1; 32]).as_str()]).expect("a key");
    let of_local = local.wrap(&NAME, &key()).await.expect("wrapped");
    for wrapped in [of_local.as_str(), "vault:transit/old:vault:v1:AAAA", "vault:other/salespulse:vault:v1:AAAA"] {
        assert!(matches!(kek.unwrap(&NAME, wrapped).await, Err(KekError::UnknownKek(_))), "{wrapped}");
        assert!(matches!(kek.rewrap(&NAME, wrapped).await, Err(KekError::UnknownKek(_))), "{wrapped}");
    }
    assert!(vault.settings().requests.is_empty());
    let of_vault = kek.wrap(&NAME, &key()).await.expect("wrapped");
    let unknown = KekError::UnknownKek("vault key transit/salespulse".to_owned());
    assert_eq!(local.unwrap(&NAME, &of_vault).await, Err(unknown));
}

#[tokio::test]
async fn a_wrong_token_is_denied() {
    let vault = Vault::start().await;
    let kek = VaultTransit::new(&VaultSettings { token: "hvs.guessed".to_owned(), ..settings(&vault.address) })
        .expect("settings");
    let denied = KekError::Denied("Vault answered 403: permission denied".to_owned());
    assert_eq!(kek.wrap(&NAME, &key()).await, Err(denied.clone()));
    assert_eq!(kek.unwrap(&NAME, "vault:transit/salespulse:vault:v1:AAAA").await, Err(denied));
}

#[tokio::test]
async fn a_mount_or_key_that_is_not_there_is_refused() {
    let vault = Vault::start().await;
    let elsewhere = VaultTransit::new(&VaultSettings { mount: "nowhere".to_owned(), ..settings(&vault.address) })
        .expect("settings");
    assert!(matches!(elsewhere.wrap(&NAME, &key()).await, Err(KekError::Refused(said)) if said.contains("no handler")));
    let nobody =
        VaultTransit::new(&VaultSettings { key: "nobody".to_owned(), ..settings(&vault.address) }).expect("settings");
    assert!(matches!(nobody.wrap(&NAME, &key()).await, Err(KekError::Denied(_))));
    assert!(is_bad(&nobody.unwrap(&NAME, "vault:transit/nobody:vault:v1:AAAA").await, "key not found"));
    assert!(!vault.settings().keys.contains_key("nobody"));
}

#[tokio::test]
async fn what_may_pass_is_unavailable() {
    let vault = Vault::start().await;
    let kek = kek(&vault);
    let wrapped = kek.wrap(&NAME, &key()).await.expect("wrapped");
    let unavailable = |reason: &str| Err(KekError::Unavailable(reason.to_owned()));

    vault.settings().is_sealed = true;
    assert_eq!(kek.unwrap(&NAME, &wrapped).await, unavailable("Vault answered 503: Vault is sealed"));
    vault.settings().is_sealed = false;

    vault.settings().delay = Duration::from_secs(5);
    let start = Instant::now();
    assert_eq!(kek.unwrap(&NAME, &wrapped).await, unavailable("no answer in time"));
    assert!(start.elapsed() < Duration::from_secs(2), "{:?}", start.elapsed());
    vault.settings().delay = Duration::ZERO;

    vault.settings().garbled = Some("<html>Welcome</html>".to_owned());
    assert_eq!(kek.unwrap(&NAME, &wrapped).await, unavailable("the answer is not one of Vault's"));
    vault.settings().garbled = None;
    assert_eq!(kek.unwrap(&NAME, &wrapped).await, Ok(key()));

    let nobody = VaultTransit::new(&settings("http://127.0.0.1:9")).expect("settings");
    assert_eq!(nobody.unwrap(&NAME, &wrapped).await, unavailable("cannot connect"));
}

#[tokio::test]
async fn the_token_does_not_follow_a_redirect() {
    let (vault, other) = (Vault::start().await, Vault::start().await);
    vault.settings().redirects_to = Some(format!("{}/v1/transit/encrypt/salespulse", other.address));
    let unavailable = KekError::Unavailable("Vault answered 307: no reason given".to_owned());
    assert_eq!(kek(&vault).wrap(&NAME, &key()).await, Err(unavailable));
    assert!(other.settings().requests.is_empty());
}

#[tokio::test]
async fn an_authority_of_ones_own_is_trusted_when_it_is_given() {
    let (vault, authority) = Vault::start_tls().await;
    let kek = VaultTransit::new(&VaultSettings { authority_pem: Some(authority), ..settings(&vault.address) });
    assert!(kek.expect("settings").wrap(&NAME, &key()).await.is_ok());
    let stranger = VaultTransit::new(&settings(&vault.address)).expect("settings");
    assert_eq!(stranger.wrap(&NAME, &key()).await, Err(KekError::Unavailable("cannot connect".to_owned())));
}

#[test]
fn settings_are_checked_and_the_token_is_not_printed() {
    let new = |change: fn(&mut VaultSettings)| {
        let mut settings = settings("https://vault.example:8200/");
        change(&mut settings);
        VaultTransit::new(&settings)
    };
    assert_eq!(format!("{:?}", new(|_| {}).expect("settings")), "VaultTransit(transit/salespulse)");
    assert!(new(|settings| settings.mount = "team/a.b/transit".to_owned()).is_ok());
    assert!(new(|settings| settings.address = "http://localhost:8200".to_owned()).is_ok());
    for address in ["", "vault:8200", "http://vault.example", "https://u:p@vault.example", "https://vault.example/?a=b"]
    {
        let settings = settings(address);
        assert!(matches!(VaultTransit::new(&settings), Err(SetupError::BadAddress)), "{address}");
    }
    for name in ["", "..", "a b", "a:b", "a/b", "ä", "a?b", "a%2e"] {
        let settings = VaultSettings { key: name.to_owned(), ..settings("https://vault.example") };
        assert!(matches!(VaultTransit::new(&settings), Err(SetupError::BadName(_))), "{name}");
    }
    for mount in ["/transit", "transit/", "a//b", "../sys"] {
        let settings = VaultSettings { mount: mount.to_owned(), ..settings("https://vault.example") };
        assert!(matches!(VaultTransit::new(&settings), Err(SetupError::BadName(_))), "{mount}");
    }
    assert!(matches!(new(|settings| settings.token = "a\nb".to_owned()), Err(SetupError::BadToken)));
    for authority in ["", "no PEM", "-----BEGIN CERTIFICATE-----\n?\n-----END CERTIFICATE-----\n"] {
        let settings =
            VaultSettings { authority_pem: Some(authority.as_bytes().to_vec()), ..settings("https://vault.example") };
        assert!(matches!(VaultTransit::new(&settings), Err(SetupError::BadAuthority)), "{authority}");
    }
}
