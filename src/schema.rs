//! Merges the domains' parts into the one GraphQL schema.

use async_graphql::{EmptySubscription, MergedObject};

use crate::app::App;
use crate::ledger::graphql::LedgerMutation;
use crate::people::graphql::PeopleQuery;

/// Where questions start. Every field needs a bearer token and sees the rows of its tenant only.
#[derive(MergedObject, Default)]
pub struct Query(PeopleQuery);

/// Where changes are made. Each is checked against the permissions of the token and written to the audit log.
#[derive(MergedObject, Default)]
pub struct Mutation(LedgerMutation);

pub type Subscription = EmptySubscription;

pub type Schema = async_graphql::Schema<Query, Mutation, Subscription>;

/// The contract as it was written, which the running schema is tested against.
pub const CONTRACT: &str = include_str!("../schema.graphql");

/// The schema over the server's parts.
pub fn build(app: App) -> Schema {
    async_graphql::Schema::build(Query::default(), Mutation::default(), EmptySubscription)
        .data(app)
        .limit_depth(12)
        .limit_complexity(20_000)
        .limit_directives(20)
        .finish()
}

/// The running schema as text, for the comparison with [`CONTRACT`].
pub fn sdl() -> String {
    async_graphql::Schema::build(Query::default(), Mutation::default(), EmptySubscription).finish().sdl()
}
