//! Connections to Redis: a single server or a cluster, detected when it first answers.

use std::sync::{Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::Duration;

use deadpool_redis::{Pool, Runtime};
use redis::aio::{ConnectionLike, MultiplexedConnection};
use redis::cluster::ClusterClient;
use redis::cluster_async::ClusterConnection;
use redis::{AsyncConnectionConfig, Client, Cmd, ErrorKind, Pipeline, RedisError, RedisFuture, RedisResult, Value};

use super::ANSWER_TIMEOUT;
use crate::stream::StreamError;

pub(super) struct Link {
    /// Of one server, or of some cluster nodes.
    urls: Vec<String>,
    found: OnceLock<Redis>,
}

/// The detected kind of server.
pub(super) enum Redis {
    Server {
        client: Client,
        pool: Pool,
    },
    /// Not pooled: a pool checks a connection by a PING to all nodes, which fails once one of them is down.
    Cluster {
        client: Box<ClusterClient>,
        shared: Mutex<Option<ClusterConnection>>,
    },
}

/// A connection for commands that do not block. Cheap to clone.
#[derive(Clone)]
pub(super) enum Brief {
    Server(MultiplexedConnection),
    Cluster(ClusterConnection),
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
            Client::open(url.as_str()).map_err(|error| StreamError(error.to_string()))?;
        }
        Ok(Link { urls, found: OnceLock::new() })
    }

    /// The detected server; `None` until one has answered.
    pub fn found(&self) -> Option<&Redis> {
        self.found.get()
    }

    /// Probes the URLs in turn for the kind of server. Error: none answers.
    pub async fn find(&self) -> RedisResult<()> {
        let mut last_error = not_found_yet();
        for url in &self.urls {
            let asked = tokio::time::timeout(ANSWER_TIMEOUT, Redis::ask(url, &self.urls)).await;
            match asked.map_err(silent).flatten() {
                Ok(redis) => {
                    self.found.get_or_init(|| redis);
                    return Ok(());
                }
                Err(error) => last_error = error,
            }
        }
        Err(last_error)
    }

    pub async fn brief(&self) -> RedisResult<Brief> {
        match self.found().ok_or_else(not_found_yet)? {
            Redis::Server { pool, .. } => {
                let connection = tokio::time::timeout(ANSWER_TIMEOUT, pool.get()).await.map_err(silent)?;
                Ok(Brief::Server(MultiplexedConnection::clone(&*connection.map_err(silent)?)))
            }
            Redis::Cluster { client, shared } => {
                if let Some(connection) = &*lock(shared) {
                    return Ok(Brief::Cluster(connection.clone()));
                }
                let connection = client.get_async_connection().await?;
                *lock(shared) = Some(connection.clone());
                Ok(Brief::Cluster(connection))
            }
        }
    }

    /// A connection for probing what is away. That of a cluster is a new one: a node that does not answer holds up its
    /// other requests, too.
    pub async fn probing(&self) -> RedisResult<Brief> {
        match self.found() {
            Some(Redis::Cluster { client, .. }) => Ok(Brief::Cluster(client.get_async_connection().await?)),
            _ => self.brief().await,
        }
    }

    /// Nothing was answered over the connection to the cluster: the next one is new.
    pub fn renew(&self) {
        if let Some(Redis::Cluster { shared, .. }) = self.found() {
            *lock(shared) = None;
        }
    }

    /// A connection for reading whose replies may take up to `answer_wait`; cluster reads never block.
    pub async fn reading(&self, answer_wait: Duration) -> RedisResult<Reading> {
        match self.found().ok_or_else(not_found_yet)? {
            Redis::Server { client, .. } => {
                let config = AsyncConnectionConfig::new().set_response_timeout(Some(answer_wait));
                let mut connection = client.get_multiplexed_async_connection_with_config(&config).await?;
                let client_id = redis::cmd("CLIENT").arg("ID").query_async(&mut connection).await?;
                Ok(Reading::Server(connection, client_id))
            }
            Redis::Cluster { client, .. } => Ok(Reading::Cluster(client.get_async_connection().await?)),
        }
    }
}

impl Redis {
    async fn ask(url: &str, all: &[String]) -> RedisResult<Redis> {
        let pool = deadpool_redis::Config::from_url(url).create_pool(Some(Runtime::Tokio1)).map_err(silent)?;
        let mut connection = pool.get().await.map_err(silent)?;
        let info: String = redis::cmd("INFO").arg("cluster").query_async(&mut connection).await?;
        if info.contains("cluster_enabled:1") {
            // One more attempt follows a slot that has moved. Others wait while what serves the slots is asked for.
            let client = ClusterClient::builder(all.iter().map(String::as_str))
                .connection_timeout(ANSWER_TIMEOUT)
                .response_timeout(ANSWER_TIMEOUT)
                .overall_response_timeout(Some(2 * ANSWER_TIMEOUT))
                .retries(1)
                .build()?;
            return Ok(Redis::Cluster { client: Box::new(client), shared: Mutex::default() });
        }
        Ok(Redis::Server { client: Client::open(url)?, pool })
    }
}

fn lock<T>(shared: &Mutex<T>) -> MutexGuard<'_, T> {
    shared.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Redis has not answered, or not in time.
pub(super) fn silent(error: impl std::fmt::Display) -> RedisError {
    RedisError::from((ErrorKind::Io, "no answer", error.to_string()))
}

fn not_found_yet() -> RedisError {
    RedisError::from((ErrorKind::Io, "redis has not answered yet"))
}

impl ConnectionLike for Brief {
    fn req_packed_command<'a>(&'a mut self, command: &'a Cmd) -> RedisFuture<'a, Value> {
        match self {
            Brief::Server(connection) => connection.req_packed_command(command),
            Brief::Cluster(connection) => connection.req_packed_command(command),
        }
    }

    fn req_packed_commands<'a>(
        &'a mut self,
        pipeline: &'a Pipeline,
        offset: usize,
        count: usize,
    ) -> RedisFuture<'a, Vec<Value>> {
        match self {
            Brief::Server(connection) => connection.req_packed_commands(pipeline, offset, count),
            Brief::Cluster(connection) => connection.req_packed_commands(pipeline, offset, count),
        }
    }

    fn get_db(&self) -> i64 {
        0
    }
}
