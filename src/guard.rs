//! Tenant guards outside of SQL: cache keys and a comparison. Each is named, so that a test can disable it and check
//! that `salespulse verify isolation` detects that.

use uuid::Uuid;

/// One such guard.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Guard {
    /// Comparison of `tenantId` with the caller's.
    Argument,
    /// Access data.
    AccessCache,
    /// Cached responses.
    ResponseCache,
    /// Coalesced reads of ledger heads.
    Heads,
    /// Equal subscriptions.
    Cohorts,
    /// Ownership of cursors.
    Cursors,
    /// Ordered batches.
    Feeds,
    /// Batches within a process.
    Channels,
    /// Batches between processes.
    Streams,
    /// Events on their way into a ledger.
    Lanes,
    /// Entries not yet in rollups.
    Tails,
    /// Rollups of days.
    Days,
    Organizations,
    /// Names of channels, regions and categories.
    Names,
    Calendars,
    /// Keys of personal data.
    Keyring,
}

impl Guard {
    #[cfg(debug_assertions)]
    pub const ALL: [Guard; 16] = [
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
        Guard::Days,
        Guard::Organizations,
        Guard::Names,
        Guard::Calendars,
        Guard::Keyring,
    ];

    /// The tenant's part of a key: its id; release builds do nothing else.
    pub fn of(self, tenant: Uuid) -> Uuid {
        #[cfg(debug_assertions)]
        if GONE.get() == Some(self) {
            return Uuid::nil();
        }
        tenant
    }

    /// Disables this guard, and no other, for what runs on this thread.
    #[cfg(debug_assertions)]
    pub fn take_away(self) {
        GONE.set(Some(self));
    }
}

#[cfg(debug_assertions)]
thread_local! {
    /// Per thread, since tests of one process run on a thread each.
    static GONE: std::cell::Cell<Option<Guard>> = const { std::cell::Cell::new(None) };
}
