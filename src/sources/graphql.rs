//! `dataSources`.

use async_graphql::{Context, ID, Object, SimpleObject};
use entity::data_sources::{Column, Entity, Model};
use sea_orm::{QueryOrder, QuerySelect};

use crate::auth::Permission;
use crate::clock::Timestamp;
use crate::error::Error;
use crate::graphql::context::{Requires, read};
use crate::graphql::scalars::DateTime;

const SOURCES_MAX: u64 = 200;

#[derive(Default)]
pub struct DataSourceQuery;

#[Object]
impl DataSourceQuery {
    /// Files and integrations that events have come from, sorted by name; at most 200. Needs INTEGRATIONS_MANAGE.
    #[graphql(guard = "Requires(Permission::IntegrationsManage)")]
    async fn data_sources(&self, ctx: &Context<'_>) -> async_graphql::Result<Option<Vec<DataSource>>> {
        let tx = read(ctx).await?;
        let query = tx.find::<Entity>().order_by_asc(Column::Name).limit(SOURCES_MAX);
        Ok(Some(query.all(tx.as_ref()).await.map_err(Error::from)?.into_iter().map(DataSource::from).collect()))
    }
}

/// A source of events: a file or an integration. Events recorded directly have none.
#[derive(SimpleObject)]
struct DataSource {
    /// The source's id.
    id: ID,
    /// Its name.
    name: String,
    /// Its kind: csv, or an integration's kind in lower case.
    kind: String,
    /// When events last came from it; null if never.
    last_sync_at: Option<DateTime>,
}

impl From<Model> for DataSource {
    fn from(source: Model) -> Self {
        DataSource {
            id: source.id.into(),
            name: source.name,
            kind: source.kind,
            last_sync_at: source.last_sync_at.map(|at| DateTime(Timestamp(at))),
        }
    }
}
