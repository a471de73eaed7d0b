//! The same statements sent by pgbench, which does nothing else.

use std::process::Command;

use salespulse::db::TenantId;
use sea_orm::Statement;

/// Transactions a second of `statements`, each sent prepared, by `clients` for `secs`; `None` without pgbench.
pub fn pgbench(
    url: &str,
    TenantId(tenant): TenantId,
    statements: &[Statement],
    clients: u64,
    secs: u64,
) -> Option<f64> {
    let file = std::env::temp_dir().join(format!("salespulse-bench-{}.sql", std::process::id()));
    let script: String = statements.iter().map(|s| s.to_string() + ";\n").collect();
    std::fs::write(&file, script).expect("written");
    let threads = clients.min(2).to_string();
    let output = Command::new(program()?)
        .args(["-n", "-M", "prepared", "-c", &clients.to_string(), "-j", &threads, "-T", &secs.to_string()])
        .arg("-f")
        .arg(&file)
        .arg(url)
        .env("PGOPTIONS", format!("-c role=salespulse_app -c app.tenant_id={tenant}"))
        .output()
        .ok()?;
    std::fs::remove_file(&file).expect("removed");
    let text = String::from_utf8_lossy(&output.stdout);
    let tps = text.lines().find_map(|line| line.strip_prefix("tps = ")?.split(' ').next()?.parse().ok());
    if tps.is_none() {
        eprintln!("pgbench: {text}{}", String::from_utf8_lossy(&output.stderr));
    }
    tps
}

fn program() -> Option<String> {
    let mut names = vec!["pgbench".to_owned()];
    for version in 15..=20 {
        names.push(format!("/usr/lib/postgresql/{version}/bin/pgbench"));
    }
    names.into_iter().find(|name| Command::new(name).arg("--version").output().is_ok_and(|o| o.status.success()))
}
