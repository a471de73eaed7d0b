//! The server's components, wired once. Cheap to clone.

use std::sync::Arc;

use crate::accounts::limits::Tries;
use crate::accounts::oidc::Providers;
use crate::alerts::explain::AlertExplanations;
use crate::auth::password::Passwords;
use crate::auth::standing::AccessCache;
use crate::auth::token::Tokens;
use crate::clock::SharedClock;
use crate::db::Db;
use crate::ledger::Ledger;
use crate::ledger::memory::Memory;
use crate::live::feed::Feeds;
use crate::personal::Keys;
use crate::predictions::Predictions;
use crate::sealing::kek::KeyEncryption;
use crate::stream::EventStream;

#[derive(Clone)]
pub struct App {
    pub db: Db,
    pub clock: SharedClock,
    pub ledger: Ledger,
    pub memory: Memory,
    /// Seals personal data.
    pub keys: Keys,
    pub stream: Arc<dyn EventStream>,
    /// Feeds for following a ledger.
    pub feeds: Feeds,
    pub predictions: Predictions,
    pub alert_explanations: AlertExplanations,
    pub tokens: Tokens,
    pub access_cache: AccessCache,
    pub passwords: Passwords,
    pub tries: Tries,
    /// External identity providers.
    pub providers: Providers,
    /// Public URL of this server, for links.
    pub public_url: Arc<str>,
    /// Whether a mail server is configured.
    pub sends_mail: bool,
}

impl App {
    /// Wires the components around a database, a clock, a stream, and the key that wraps the tenants' keys.
    pub fn new(
        db: Db,
        clock: SharedClock,
        stream: Arc<dyn EventStream>,
        tokens: Tokens,
        kek: Arc<dyn KeyEncryption>,
    ) -> App {
        let keys = Keys::new(db.clone(), Arc::clone(&clock), kek);
        let memory = Memory::default();
        let observer = Arc::new(crate::alerts::evaluate::AlertObserver { memory: memory.clone() });
        let ledger =
            Ledger::new(db.clone(), Arc::clone(&clock), Arc::clone(&stream), observer, memory.clone(), keys.clone());
        let feeds = Feeds::new(db.clone(), Arc::clone(&stream));
        App {
            access_cache: AccessCache::new(db.clone(), Arc::clone(&clock)),
            passwords: Passwords::default(),
            tries: Tries::default(),
            providers: Providers::default(),
            predictions: Predictions::default(),
            alert_explanations: AlertExplanations::default(),
            public_url: "http://localhost:4000".into(),
            sends_mail: true,
            db,
            clock,
            ledger,
            memory,
            keys,
            stream,
            feeds,
            tokens,
        }
    }
}
