//! Redis servers of a test's own, which it may end.

use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

/// One server on a port of its own, without anything kept on disk.
pub struct Redis {
    pub port: u16,
    child: Child,
    folder: tempfile::TempDir,
    is_cluster_node: bool,
}

fn free_port() -> u16 {
    // A cluster node also takes the port 10000 above.
    loop {
        let port = std::net::TcpListener::bind("127.0.0.1:0").and_then(|l| l.local_addr()).expect("a port").port();
        if port < 55_000 && std::net::TcpListener::bind(("127.0.0.1", port + 10_000)).is_ok() {
            return port;
        }
    }
}

impl Redis {
    pub fn start(is_cluster_node: bool) -> Redis {
        let folder = tempfile::tempdir().expect("a folder");
        let port = free_port();
        let mut redis = Redis { port, child: run(port, folder.path(), is_cluster_node), folder, is_cluster_node };
        redis.wait();
        redis
    }

    pub fn url(&self) -> String {
        format!("redis://127.0.0.1:{}", self.port)
    }

    pub fn kill(&mut self) {
        self.child.kill().expect("killed");
        self.child.wait().expect("ended");
    }

    /// STOP, after which it does not answer, or CONT.
    pub fn signal(&self, name: &str) {
        let sent = Command::new("kill").args(["-s", name, &self.child.id().to_string()]).status().expect("kill");
        assert!(sent.success());
    }

    /// Starts again, empty.
    pub fn restart(&mut self) {
        self.child = run(self.port, self.folder.path(), self.is_cluster_node);
        self.wait();
    }

    fn wait(&mut self) {
        let deadline = Instant::now() + Duration::from_secs(20);
        while std::net::TcpStream::connect(("127.0.0.1", self.port)).is_err() {
            assert!(Instant::now() < deadline, "redis-server does not start");
            std::thread::yield_now();
        }
    }
}

impl Drop for Redis {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn run(port: u16, folder: &std::path::Path, is_cluster_node: bool) -> Child {
    let mut command = Command::new("redis-server");
    command.args(["--port", &port.to_string(), "--bind", "127.0.0.1", "--save", "", "--appendonly", "no"]);
    command.arg("--dir").arg(folder);
    if is_cluster_node {
        command.args(["--cluster-enabled", "yes", "--cluster-require-full-coverage", "no"]);
    }
    command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().expect("redis-server")
}

/// Three nodes that share the slots of a cluster.
pub fn cluster() -> [Redis; 3] {
    let nodes = [(); 3].map(|()| Redis::start(true));
    let addresses = nodes.iter().map(|node| format!("127.0.0.1:{}", node.port));
    let created = Command::new("redis-cli")
        .args(["--cluster", "create"])
        .args(addresses)
        .args(["--cluster-replicas", "0", "--cluster-yes"])
        .output()
        .expect("redis-cli");
    assert!(created.status.success(), "{}", String::from_utf8_lossy(&created.stdout));
    nodes
}
