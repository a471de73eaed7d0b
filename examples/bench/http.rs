//! A load of HTTP requests over connections that are kept open.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::runtime::Builder;

/// What a load came to.
pub struct Load {
    pub per_sec: f64,
    pub p50: Duration,
    pub p95: Duration,
}

/// Sends `body(n)` to `path` for `length`, from `clients` connections; `n` is another one for each request. The clients
/// have a thread of their own, as they would have in another process: on the server's threads its tasks would wait for
/// theirs.
pub async fn load(
    address: SocketAddr,
    path: &'static str,
    token: &str,
    clients: u64,
    length: Duration,
    body: impl Fn(u64) -> String + Send + Sync + 'static,
) -> Load {
    let head = format!(
        "POST {path} HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nAuthorization: Bearer {token}\r\n"
    );
    let runtime = Builder::new_current_thread().enable_all().build().expect("a runtime");
    let load = move || runtime.block_on(send(address, head, clients, length, body));
    tokio::task::spawn_blocking(load).await.expect("no panic")
}

async fn send(
    address: SocketAddr,
    head: String,
    clients: u64,
    length: Duration,
    body: impl Fn(u64) -> String + Send + Sync + 'static,
) -> Load {
    let body = Arc::new(body);
    let number = Arc::new(AtomicU64::new(0));
    let mut tasks = tokio::task::JoinSet::new();
    let started = Instant::now();
    for _ in 0..clients {
        let (body, number, head) = (Arc::clone(&body), Arc::clone(&number), head.clone());
        tasks.spawn(async move {
            let mut stream = TcpStream::connect(address).await.expect("connected");
            stream.set_nodelay(true).expect("no delay");
            let (mut times, mut buffer) = (Vec::new(), Vec::new());
            while started.elapsed() < length {
                let body = body(number.fetch_add(1, Ordering::Relaxed));
                let request = format!("{head}Content-Length: {}\r\n\r\n{body}", body.len());
                let sent = Instant::now();
                stream.write_all(request.as_bytes()).await.expect("sent");
                read_response(&mut stream, &mut buffer).await;
                times.push(sent.elapsed());
            }
            times
        });
    }
    let mut times = tasks.join_all().await.concat();
    let per_sec = times.len() as f64 / started.elapsed().as_secs_f64();
    times.sort_unstable();
    let at = |percent: usize| times.get(times.len() * percent / 100).copied().unwrap_or_default();
    Load { per_sec, p50: at(50), p95: at(95) }
}

/// Reads one response with a Content-Length; it must be a success without errors.
async fn read_response(stream: &mut TcpStream, buffer: &mut Vec<u8>) {
    buffer.clear();
    let (mut head_len, mut body_len) = (0, usize::MAX);
    while body_len == usize::MAX || buffer.len() < head_len + body_len {
        let read = stream.read_buf(buffer).await.expect("read");
        assert!(read > 0, "the server closed the connection");
        if body_len == usize::MAX
            && let Some(end) = buffer.windows(4).position(|w| w == b"\r\n\r\n")
        {
            let head = String::from_utf8_lossy(&buffer[..end]).to_ascii_lowercase();
            assert!(head.starts_with("http/1.1 200"), "{head}");
            let length = head.lines().find_map(|line| line.strip_prefix("content-length: ")).expect("a length");
            (head_len, body_len) = (end + 4, length.trim().parse().expect("a number"));
        }
    }
    let start = &buffer[head_len..(head_len + body_len).min(head_len + 12)];
    assert!(!start.starts_with(b"{\"errors\""), "{}", String::from_utf8_lossy(&buffer[head_len..]));
}

/// The body of one answer.
pub async fn answer(address: SocketAddr, path: &'static str, token: &str, body: &str) -> Vec<u8> {
    let mut stream = TcpStream::connect(address).await.expect("connected");
    let request = format!(
        "POST {path} HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nAuthorization: Bearer {token}\r\n\
         Content-Length: {}\r\n\r\n{body}",
        body.len()
    );
    stream.write_all(request.as_bytes()).await.expect("sent");
    let mut buffer = Vec::new();
    read_response(&mut stream, &mut buffer).await;
    let end = buffer.windows(4).position(|w| w == b"\r\n\r\n").expect("a head") + 4;
    buffer.split_off(end)
}
