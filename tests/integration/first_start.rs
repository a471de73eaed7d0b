//! Processes that start for the first time at once, over one SQLite database.

use std::process::{Command, Stdio};

use crate::command_line::Program;

/// No keys in the environment.
const BARE: [(&str, &str); 2] = [("SALESPULSE_KEK", ""), ("SALESPULSE_JWT_SECRET", "")];

const MAPPING: &str = r#"
name = "shop"
[[feeds]]
name = "orders"
fact = "order"
file = { path = "orders.csv" }
id = "{id}"
time = "{time}"
amount = "{amount}"
customer = "{id}"
customer_name = "{name}"
"#;

/// Runs them at once; gives what they print.
fn succeed_at_once(commands: Vec<Command>) -> Vec<String> {
    let start = |mut command: Command| command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("started");
    let started: Vec<_> = commands.into_iter().map(start).collect();
    let outputs = started.into_iter().map(|process| process.wait_with_output().expect("ended"));
    outputs
        .map(|output| {
            assert_eq!(output.status.code(), Some(0), "{output:?}");
            String::from_utf8(output.stdout).expect("text")
        })
        .collect()
}

#[test]
fn imports_that_create_the_same_tenant_and_key_at_once_share_them() {
    let program = Program::new();
    program.succeed(&["migrate"]);
    let folders = ["a", "b", "c", "d"];
    for folder in folders {
        let path = program.path().join(folder);
        std::fs::create_dir(&path).expect("made");
        std::fs::write(path.join("shop.toml"), MAPPING.replace("shop", folder)).expect("written");
        let rows = format!("id,time,amount,name\n{folder},2026-01-01 10:00,1.25,Zoe\n");
        std::fs::write(path.join("orders.csv"), rows).expect("written");
    }
    let import = |folder| {
        program.command(&["import", "--tenant", "acme", "--create-tenant", &format!("{folder}/shop.toml")], &BARE)
    };
    for printed in succeed_at_once(folders.map(import).into()) {
        assert!(printed.contains("1 read = 1 accepted"), "{printed}");
    }
    assert_eq!(program.succeed(&["tenant", "list"]).lines().count(), 1);
    // What they have encrypted can be read with the key that is there.
    let rotated = program.command(&["sealing", "rotate", "--tenant", "acme"], &BARE).output().expect("it runs");
    assert!(String::from_utf8_lossy(&rotated.stdout).contains("4 customers resealed"), "{rotated:?}");
}

#[test]
fn tokens_that_need_a_signing_key_at_once_are_signed_by_the_same() {
    let program = Program::new();
    program.succeed(&["migrate"]);
    program.succeed(&["tenant", "create", "acme"]);
    let token = || program.command(&["token", "--tenant", "acme", "--role", "viewer"], &BARE);
    let tokens = succeed_at_once((0..6).map(|_| token()).collect());
    // The header names the key.
    let keys: std::collections::BTreeSet<&str> = tokens.iter().filter_map(|token| token.split('.').next()).collect();
    assert_eq!(keys.len(), 1, "{keys:?}");
}

#[test]
fn a_tenant_that_is_created_twice_at_once_is_there_already() {
    let program = Program::new();
    program.succeed(&["migrate"]);
    let create = || {
        let mut command = program.command(&["tenant", "create", "acme"], &[]);
        command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("started")
    };
    let started: Vec<_> = (0..6).map(|_| create()).collect();
    let outputs = started.into_iter().map(|process| process.wait_with_output().expect("ended"));
    let (created, refused): (Vec<_>, Vec<_>) = outputs.partition(|output| output.status.success());
    assert_eq!(created.len(), 1);
    for output in refused {
        let message = String::from_utf8_lossy(&output.stderr);
        assert!(message.contains("there is a tenant acme already"), "{message}");
    }
}
