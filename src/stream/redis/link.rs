//! Connections to Redis: a single server or a cluster, detected when it first answers.

use std::sync::OnceLock;
use std::time::Duration;

use deadpool_redis::{Pool, Runtime, cluster};
use redis::aio::{ConnectionLike, MultiplexedConnection};
use redis::cluster::ClusterClient;
use redis::cluster_async::ClusterConnection;
use redis::{AsyncConnectionConfig, Client, Cmd, ErrorKind, Pipeline, RedisError, RedisFuture, Value};

use super::{ANSWER_TIMEOUT, failed};
use crate::stream::StreamError;

pub(super) struct Link {
    /// Of one server, or of some cluster nodes.
    urls: Vec<String>,
    found: OnceLock<Redis>,
}

/// The detected kind of server.
pub(super) enum Redis {
    Server { client: Client, pool: Pool },
    Cluster { client: Box<ClusterClient>, pool: cluster::Pool },
}

/// A pooled connection, for commands that do not block.
pub(super) enum Pooled {
    Server(deadpool_redis::Connection),
    Cluster(cluster::Connection),
}

/// The reader task's connection.
pub(super) enum Reading {
    /// May block; the number is its Redis client id.
    Server(MultiplexedConnection, i64),
    /// Must not block: a command cannot span streams of several tenants, and a blocking one would hold up the others.
    Cluster(ClusterConnection),
}

impl Link {
    /// From comma-separated URLs, without connecting. Error: one is malformed.
    pub fn new(urls: &str) -> Result<Link, StreamError> {
        let urls: Vec<String> =
            urls.split(',').map(|url| url.trim().to_owned()).filter(|url| !url.is_empty()).collect();
        if urls.is_empty() {
            return Err(StreamError("no URL".to_owned()));
        }
        for url in &urls {
            Client::open(url.as_str()).map_err(failed)?;
        }
        Ok(Link { urls, found: OnceLock::new() })
    }

    /// The detected server; `None` until one has answered.
    pub fn found(&self) -> Option<&Redis> {
        self.found.get()
    }

    /// Probes the URLs in turn for the kind of server. Error: none answers.
    pub async fn find(&self) -> Result<(), StreamError> {
        let mut last_error = not_found_yet();
        for url in &self.urls {
            let asked = tokio::time::timeout(ANSWER_TIMEOUT, Redis::ask(url, &self.urls)).await;
            match asked.unwrap_or_else(|elapsed| Err(failed(elapsed))) {
                Ok(redis) => {
                    self.found.get_or_init(|| redis);
                    return Ok(());
                }
                Err(error) => last_error = error,
            }
        }
        Err(last_error)
    }

    pub async fn pooled(&self) -> Result<Pooled, StreamError> {
        let redis = self.found().ok_or_else(not_found_yet)?;
        let connection = async {
            match redis {
                Redis::Server { pool, .. } => pool.get().await.map(Pooled::Server),
                Redis::Cluster { pool, .. } => pool.get().await.map(Pooled::Cluster),
            }
        };
        tokio::time::timeout(ANSWER_TIMEOUT, connection).await.map_err(failed)?.map_err(failed)
    }

    /// A connection for reading whose replies may take up to `answer_wait`; cluster reads never block.
    pub async fn reading(&self, answer_wait: Duration) -> Result<Reading, RedisError> {
        match self.found() {
            None => Err(RedisError::from((ErrorKind::Io, NOT_FOUND_YET))),
            Some(Redis::Server { client, .. }) => {
                let config = AsyncConnectionConfig::new().set_response_timeout(Some(answer_wait));
                let mut connection = client.get_multiplexed_async_connection_with_config(&config).await?;
                let client_id = redis::cmd("CLIENT").arg("ID").query_async(&mut connection).await?;
                Ok(Reading::Server(connection, client_id))
            }
            Some(Redis::Cluster { client, .. }) => Ok(Reading::Cluster(client.get_async_connection().await?)),
        }
    }
}

impl Redis {
    async fn ask(url: &str, all: &[String]) -> Result<Redis, StreamError> {
        let config = deadpool_redis::Config::from_url(url);
        let pool = config.create_pool(Some(Runtime::Tokio1)).map_err(failed)?;
        let mut connection = pool.get().await.map_err(failed)?;
        let info: String = redis::cmd("INFO").arg("cluster").query_async(&mut connection).await.map_err(failed)?;
        if info.contains("cluster_enabled:1") {
            let client = ClusterClient::builder(all.iter().map(String::as_str))
                .response_timeout(ANSWER_TIMEOUT)
                .build()
                .map_err(failed)?;
            let config = cluster::Config::from_urls(all.to_vec());
            let pool = config.create_pool(Some(Runtime::Tokio1)).map_err(failed)?;
            return Ok(Redis::Cluster { client: Box::new(client), pool });
        }
        Ok(Redis::Server { client: Client::open(url).map_err(failed)?, pool })
    }
}

const NOT_FOUND_YET: &str = "redis has not answered yet";

fn not_found_yet() -> StreamError {
    StreamError(NOT_FOUND_YET.to_owned())
}

impl ConnectionLike for Pooled {
    fn req_packed_command<'a>(&'a mut self, command: &'a Cmd) -> RedisFuture<'a, Value> {
        match self {
            Pooled::Server(connection) => connection.req_packed_command(command),
            Pooled::Cluster(connection) => connection.req_packed_command(command),
        }
    }

    fn req_packed_commands<'a>(
        &'a mut self,
        pipeline: &'a Pipeline,
        offset: usize,
        count: usize,
    ) -> RedisFuture<'a, Vec<Value>> {
        match self {
            Pooled::Server(connection) => connection.req_packed_commands(pipeline, offset, count),
            Pooled::Cluster(connection) => connection.req_packed_commands(pipeline, offset, count),
        }
    }

    fn get_db(&self) -> i64 {
        0
    }
}
