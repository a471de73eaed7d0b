//! What every statement of a tenant passes before it is sent.

use std::sync::Arc;

use sea_orm::{DbBackend, DbErr, Statement};

use super::TenantId;
use super::count::Counter;
use super::scoping::Scoping;

#[cfg(debug_assertions)]
type Mutate = dyn Fn(&str) -> Option<String> + Send + Sync;

#[derive(Clone)]
pub(super) struct Gate {
    pub(super) counter: Arc<Counter>,
    /// Where there is no row-level security, and in debug builds.
    pub(super) scoping: Option<Scoping>,
    /// For the test that the absence of a guard is detected: a statement's replacement, if any.
    #[cfg(debug_assertions)]
    pub(super) mutate: Option<Arc<Mutate>>,
}

impl Gate {
    pub(super) fn new(backend: DbBackend) -> Self {
        Gate {
            counter: Arc::default(),
            scoping: (backend != DbBackend::Postgres || cfg!(debug_assertions)).then(|| Scoping::new(backend)),
            #[cfg(debug_assertions)]
            mutate: None,
        }
    }

    /// Counts a statement. Error: it may reach other rows than `tenant`'s.
    pub(super) fn pass(&self, statement: Statement, tenant: TenantId) -> Result<Statement, DbErr> {
        self.counter.statement();
        #[cfg(debug_assertions)]
        let statement = match self.mutate.as_ref().and_then(|mutate| mutate(&statement.sql)) {
            Some(sql) => Statement { sql, ..statement },
            None => statement,
        };
        if let Some(scoping) = &self.scoping {
            scoping.check(&statement, tenant)?;
        }
        Ok(statement)
    }
}
