//! What keeps tenants apart where no statement does: the keys of what a process keeps, and a comparison. Each has a name, so
//! that a test can take it away and see that `salespulse verify isolation` misses it.

use uuid::Uuid;

/// One such guard.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Guard {
    /// Whether `tenantId` is the caller's.
    Argument,
    /// Who may come in.
    AccessCache,
    /// Finished answers.
    ResponseCache,
    /// Where ledgers stand, asked by many at once.
    Heads,
    /// Equal subscriptions.
    Cohorts,
    /// Whose a cursor is.
    Cursors,
    /// Batches in order.
    Feeds,
    /// Batches within a process.
    Channels,
    /// Batches between processes.
    Streams,
    /// Events on their way into a ledger.
    Lanes,
    /// Entries that rollups do not hold yet.
    Tails,
    Organizations,
    /// Names of channels, regions and categories.
    Names,
    Calendars,
    /// Keys of personal data.
    Keyring,
}

impl Guard {
    #[cfg(debug_assertions)]
    pub const ALL: [Guard; 15] = [
        Guard::Argument,
        Guard::AccessCache,
        Guard::ResponseCache,
        Guard::Heads,
        Guard::Cohorts,
        Guard::Cursors,
        Guard::Feeds,
        Guard::Channels,
        Guard::Streams,
        Guard::Lanes,
        Guard::Tails,
        Guard::Organizations,
        Guard::Names,
        Guard::Calendars,
        Guard::Keyring,
    ];

    /// What tells a tenant from others here: its id, which is all that release builds know of.
    pub fn of(self, tenant: Uuid) -> Uuid {
        #[cfg(debug_assertions)]
        if GONE.get() == Some(self) {
            return Uuid::nil();
        }
        tenant
    }

    /// Takes this guard, and no other, away from what runs on this thread.
    #[cfg(debug_assertions)]
    pub fn take_away(self) {
        GONE.set(Some(self));
    }
}

#[cfg(debug_assertions)]
thread_local! {
    /// Tests of one process have a thread each.
    static GONE: std::cell::Cell<Option<Guard>> = const { std::cell::Cell::new(None) };
}
