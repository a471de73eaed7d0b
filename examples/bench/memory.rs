//! Memory of the real program.

use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use crate::report::Report;

/// Starts `salespulse serve` on the database and prints what it holds in memory when idle.
pub fn report(url: &str, name: &str) {
    let Some(program) = program() else {
        eprintln!("no release build of salespulse beside the benchmark: memory is not measured");
        return;
    };
    let port = std::net::TcpListener::bind("127.0.0.1:0").and_then(|l| l.local_addr()).expect("a free port").port();
    let child = Command::new(program)
        .arg("serve")
        .env("DATABASE_URL", url)
        .env("SALESPULSE_LISTEN", format!("127.0.0.1:{port}"))
        .env("SALESPULSE_JWT_SECRET", "a secret of the benchmark, long enough")
        .env("SALESPULSE_KEK", crate::KEK)
        .stderr(Stdio::null())
        .spawn()
        .expect("started");
    let mut child = Ended(child);
    let deadline = Instant::now() + Duration::from_secs(20);
    while std::net::TcpStream::connect(("127.0.0.1", port)).is_err() {
        assert!(Instant::now() < deadline, "the server does not start");
        std::thread::sleep(Duration::from_millis(50));
    }
    let mut report = Report::begin(&format!("{name}: memory of `salespulse serve`"), &["when", "resident"]);
    report.row(&["idle".into(), resident(&mut child.0)]);
}

struct Ended(Child);

impl Drop for Ended {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn program() -> Option<std::path::PathBuf> {
    let path = std::env::current_exe().ok()?.parent()?.parent()?.join("salespulse");
    path.exists().then_some(path)
}

fn resident(child: &mut Child) -> String {
    let status = std::fs::read_to_string(format!("/proc/{}/status", child.id())).unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap_or("unknown");
    line.trim().to_owned()
}
