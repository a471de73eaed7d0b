//! The limit: a process that sends a frame to all its sockets and does nothing else.

use std::collections::HashMap;
use std::process::Command;
use std::time::{Duration, Instant};

use futures_util::{SinkExt, StreamExt};
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::broadcast;
use tokio_tungstenite::tungstenite::protocol::WebSocketConfig;
use tokio_tungstenite::tungstenite::{Message, Utf8Bytes};
use tokio_util::sync::CancellationToken;

use crate::clients::{Run, Setting, collect, connect, evaluate, watch};
use crate::process::{Process, free_port};

/// Serves sockets on the port of the second argument, and on that of the third takes orders: a line with a number and a size
/// is answered, and sent to all sockets as a frame of that size.
pub async fn serve() {
    let port = |n: usize| std::env::args().nth(n).and_then(|port| port.parse::<u16>().ok()).expect("a port");
    let (frames, _) = broadcast::channel::<Utf8Bytes>(64);
    let orders = TcpListener::bind(("127.0.0.1", port(3))).await.expect("a free port");
    let sockets = TcpListener::bind(("127.0.0.1", port(2))).await.expect("a free port");
    let sender = frames.clone();
    tokio::spawn(async move {
        loop {
            let (stream, _) = orders.accept().await.expect("accepted");
            let (read, mut write) = stream.into_split();
            let mut lines = BufReader::new(read).lines();
            while let Ok(Some(line)) = lines.next_line().await {
                let (number, bytes) = line.split_once(' ').expect("two numbers");
                let start = format!("{{\"type\":\"next\",\"position\":\"{number}\",\"rest\":\"");
                let size = bytes.parse::<usize>().expect("a size").saturating_sub(start.len() + 2);
                let _ = sender.send(format!("{start}{}\"}}", "x".repeat(size)).into());
                write.write_all(b"ok\n").await.expect("answered");
            }
        }
    });
    loop {
        let (stream, _) = sockets.accept().await.expect("accepted");
        stream.set_nodelay(true).expect("no delay");
        let mut frames = frames.subscribe();
        tokio::spawn(async move {
            let config = WebSocketConfig::default().read_buffer_size(4096);
            let Ok(socket) = tokio_tungstenite::accept_async_with_config(stream, Some(config)).await else { return };
            let (mut sink, mut stream) = socket.split();
            loop {
                tokio::select! {
                    frame = frames.recv() => {
                        let Ok(frame) = frame else { return };
                        if sink.send(Message::Text(frame)).await.is_err() {
                            return;
                        }
                    }
                    read = stream.next() => if read.is_none_or(|read| read.is_err()) {
                        return;
                    },
                }
            }
        });
    }
}

/// The same run as the server's.
pub async fn run(setting: &Setting, events: usize, pause: Duration, frame_bytes: usize) -> Run {
    let (port, orders_port) = (free_port(), free_port());
    let mut command = Command::new(std::env::current_exe().expect("this program"));
    command.args(["peer", &port.to_string(), &orders_port.to_string()]);
    let peer = Process::start(command, port);
    let mut run = Run::default();
    let mut clients = Vec::with_capacity(setting.sockets);
    for _ in 0..setting.sockets {
        clients.push(connect(port, None).await);
    }
    let end = CancellationToken::new();
    let watchers: Vec<_> =
        clients.into_iter().map(|client| tokio::spawn(watch(client, 0, events, end.clone()))).collect();
    let orders = TcpStream::connect(("127.0.0.1", orders_port)).await.expect("connected");
    orders.set_nodelay(true).expect("no delay");
    let (read, mut write) = orders.into_split();
    let mut answers = BufReader::new(read).lines();
    let before = peer.cpu();
    let mut acknowledged = HashMap::new();
    for n in 1..=events {
        let tick = Instant::now();
        write.write_all(format!("{n} {frame_bytes}\n").as_bytes()).await.expect("sent");
        answers.next_line().await.expect("read").expect("answered");
        acknowledged.insert((0, n), Instant::now());
        tokio::time::sleep(pause.saturating_sub(tick.elapsed())).await;
    }
    let all = collect(watchers, &end).await;
    evaluate(&mut run, &all, events, &acknowledged);
    run.cpu_micros = (peer.cpu() - before).as_secs_f64() * 1e6 / run.latencies.len().max(1) as f64;
    run
}
