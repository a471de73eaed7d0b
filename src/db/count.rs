//! Counts database statements: tests pin the counts to prevent N+1 queries.

use std::sync::atomic::{AtomicU64, Ordering};

#[derive(Default)]
pub(super) struct Counter {
    statements: AtomicU64,
    transactions: AtomicU64,
}

/// Counts since connecting.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Statements {
    pub statements: u64,
    pub transactions: u64,
}

impl Counter {
    pub(super) fn statement(&self) {
        self.statements.fetch_add(1, Ordering::Relaxed);
    }

    pub(super) fn transaction(&self) {
        self.transactions.fetch_add(1, Ordering::Relaxed);
    }

    pub(super) fn read(&self) -> Statements {
        Statements {
            statements: self.statements.load(Ordering::Relaxed),
            transactions: self.transactions.load(Ordering::Relaxed),
        }
    }
}

impl std::ops::Sub for Statements {
    type Output = Statements;

    fn sub(self, earlier: Statements) -> Statements {
        Statements {
            statements: self.statements - earlier.statements,
            transactions: self.transactions - earlier.transactions,
        }
    }
}
