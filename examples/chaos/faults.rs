//! What goes wrong, in an order that the seed decides.

use std::time::{Duration, Instant};

use rand::Rng;
use rand::rngs::StdRng;
use rand::seq::SliceRandom;

use crate::processes::{World, kill_postgres, signal, start_postgres};

/// The least time from one fault to the next.
pub const GAP_MIN: Duration = Duration::from_millis(500);

/// Does harm for `length`; gives a line for each kind of fault with its number.
pub async fn run(
    world: &World,
    random: &mut StdRng,
    length: Duration,
    (gap_max, pause): (Duration, Duration),
) -> Vec<String> {
    const KINDS: [&str; 7] = [
        "kill -9 of a server",
        "kill -9 of PostgreSQL",
        "kill -9 of Redis",
        "FLUSHALL",
        "Redis stopped for a while",
        "a server stopped for a while",
        "a server asked to end",
    ];
    let (started, mut counts) = (Instant::now(), [0; KINDS.len()]);
    // Each kind once before any comes again, so that short runs have them all.
    let mut deck: Vec<usize> = Vec::new();
    while started.elapsed() < length {
        tokio::time::sleep(random.random_range(GAP_MIN..gap_max)).await;
        if deck.is_empty() {
            deck.extend(0..KINDS.len());
            deck.shuffle(random);
        }
        let Some(kind) = deck.pop() else { break };
        let server = &world.servers[random.random_range(0..2)];
        counts[kind] += 1;
        println!("{:5.1} s: {}", started.elapsed().as_secs_f64(), KINDS[kind]);
        match kind {
            0 => {
                signal("KILL", server.pid());
                tokio::time::sleep(Duration::from_millis(random.random_range(0..1500))).await;
                server.restart();
            }
            1 => {
                kill_postgres();
                tokio::time::sleep(Duration::from_millis(random.random_range(0..1500))).await;
                start_postgres(&world.db_url).await;
            }
            2 => {
                world.kill_redis();
                tokio::time::sleep(Duration::from_millis(random.random_range(0..4000))).await;
                world.start_redis();
            }
            3 => world.flush_redis(),
            4 => {
                let pid = world.redis.lock().expect("a lock").id();
                signal("STOP", pid);
                tokio::time::sleep(pause).await;
                signal("CONT", pid);
            }
            5 => {
                signal("STOP", server.pid());
                tokio::time::sleep(pause).await;
                signal("CONT", server.pid());
            }
            _ => {
                let begun = Instant::now();
                let code = server.terminate();
                let took = begun.elapsed();
                assert!(code == Some(0) && took < Duration::from_secs(30), "exit {code:?} after {took:?}");
                server.restart();
            }
        }
    }
    KINDS.iter().zip(counts).map(|(kind, count)| format!("{count:4} x {kind}")).collect()
}
