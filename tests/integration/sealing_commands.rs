//! What the command line does with keys: they are made for a server alone, missed and mistaken ones are told of, and rotated.

use std::path::PathBuf;

use crate::command_line::Program;
use crate::support::KEK;

/// No key in the environment.
const BARE: [(&str, &str); 1] = [("SALESPULSE_KEK", "")];

const MAPPING: &str = r#"
name = "shop"
[[feeds]]
name = "orders"
fact = "order"
file = { path = "orders.csv" }
id = "{#}"
time = "{time}"
amount = "{amount}"
customer = "{id}"
customer_name = "{name}"
"#;

/// A program with sales of two customers in its database.
fn with_sales(settings: &[(&str, &str)]) -> Program {
    let program = Program::new();
    program.succeed(&["migrate"]);
    std::fs::write(program.path().join("shop.toml"), MAPPING).expect("written");
    let rows = "time,amount,id,name\n2026-01-01 10:00,1.25,a,Zoe\n2026-01-01 10:00,1.25,b,Max\n";
    std::fs::write(program.path().join("orders.csv"), rows).expect("written");
    succeed(&program, &["import", "--tenant", "acme", "--create-tenant", "shop.toml"], settings);
    program
}

fn succeed(program: &Program, arguments: &[&str], settings: &[(&str, &str)]) -> String {
    let output = program.command(arguments, settings).output().expect("it runs");
    assert_eq!(output.status.code(), Some(0), "{output:?}");
    String::from_utf8(output.stdout).expect("text")
}

fn kek_of(program: &Program) -> PathBuf {
    program.path().join("data/salespulse.db.kek")
}

#[test]
fn a_server_alone_has_its_key_made_and_misses_it_when_it_is_gone() {
    let program = with_sales(&BARE);
    let kek = kek_of(&program);
    #[cfg(unix)]
    {
        use std::os::unix::fs::PermissionsExt;
        assert_eq!(std::fs::metadata(&kek).expect("made").permissions().mode() & 0o777, 0o600);
    }
    let again = ["import", "--tenant", "acme", "shop.toml"];
    succeed(&program, &again, &BARE);
    let away = kek.with_extension("away");
    std::fs::rename(&kek, &away).expect("moved");
    let message = program.fail(2, &["serve"], &BARE);
    assert!(message.contains("salespulse.db.kek is missing") && message.contains("local:"), "{message}");
    assert!(!kek.exists(), "no other is made in its place");
    // Another key is not the right one, and is not shown.
    let message = program.fail(2, &["serve"], &[("SALESPULSE_KEK", KEK)]);
    assert!(message.contains("not the right one: wrapped by local key") && !message.contains(KEK), "{message}");
    std::fs::rename(&away, &kek).expect("moved");
    succeed(&program, &again, &BARE);
}

#[test]
fn keys_that_make_no_sense_are_told_of_without_being_shown() {
    let program = Program::new();
    program.succeed(&["migrate"]);
    let fail = |name, value| program.fail(2, &["serve"], &[("SALESPULSE_KEK", ""), (name, value)]);
    assert!(!fail("SALESPULSE_KEK", "hidden").contains("hidden"));
    assert!(
        fail("SALESPULSE_KEK_FILES", "nowhere").contains("SALESPULSE_KEK_FILES: the key file nowhere cannot be read")
    );
    assert!(fail("SALESPULSE_VAULT_URL", "http://vault.example").contains("SALESPULSE_VAULT_URL"));
    let both = [("SALESPULSE_VAULT_URL", "https://vault.example:8200")];
    assert!(program.fail(2, &["serve"], &both).contains("set one of"));
    let both = [("SALESPULSE_KEK_FILES", "kek")];
    assert!(program.fail(2, &["serve"], &both).contains("SALESPULSE_KEK: cannot be set together"));
    let both = [("SALESPULSE_KEK", ""), ("SALESPULSE_KEK_FILES", "kek"), ("SALESPULSE_VAULT_URL", "https://v.example")];
    assert!(program.fail(2, &["serve"], &both).contains("SALESPULSE_VAULT_URL: cannot be set together"));
    program.succeed(&["sealing", "new-kek", "kek"]);
    assert!(program.fail(2, &["sealing", "new-kek", "kek"], &[]).contains("already exists"));
    #[cfg(unix)]
    {
        use std::os::unix::fs::PermissionsExt;
        let open = std::fs::Permissions::from_mode(0o644);
        std::fs::set_permissions(program.path().join("kek"), open).expect("a mode");
        assert!(fail("SALESPULSE_KEK_FILES", "kek").contains("has mode 644"));
    }
}

#[test]
fn the_key_that_wraps_is_replaced_by_another() {
    let program = with_sales(&BARE);
    program.succeed(&["sealing", "new-kek", "new"]);
    let both = [("SALESPULSE_KEK", ""), ("SALESPULSE_KEK_FILES", "new,data/salespulse.db.kek")];
    assert!(succeed(&program, &["sealing", "rewrap", "--all"], &both).contains("acme: 2 keys rewrapped"));
    std::fs::remove_file(kek_of(&program)).expect("removed");
    let new = [("SALESPULSE_KEK", ""), ("SALESPULSE_KEK_FILES", "new")];
    succeed(&program, &["import", "--tenant", "acme", "shop.toml"], &new);
    assert!(succeed(&program, &["sealing", "status"], &new).contains("wraps 2 keys"));
}

/// Changes the stored keys of a condition.
#[tokio::main(flavor = "current_thread")]
async fn damage(program: &Program, condition: &str) {
    let db = program.database().await;
    let tenant = salespulse::tenancy::find_tenant(&db, "acme").await.expect("a query").expect("a tenant");
    let tx = db.write(tenant).await.expect("begun");
    let sql = format!(
        "UPDATE tenant_keys SET wrapped = substr(wrapped, 1, length(wrapped) - 8) || 'damaged+' \
         WHERE tenant_id = $1 AND {condition}"
    );
    assert!(tx.execute(&sql, []).await.expect("damaged") > 0);
    tx.commit().await.expect("committed");
}

#[test]
fn a_damaged_key_stops_nothing_but_what_needs_it() {
    let program = with_sales(&BARE);
    succeed(&program, &["import", "--tenant", "beta", "--create-tenant", "shop.toml"], &BARE);
    program.succeed(&["sealing", "new-kek", "new"]);
    damage(&program, "version = 0");
    let both = [("SALESPULSE_KEK", ""), ("SALESPULSE_KEK_FILES", "new,data/salespulse.db.kek")];
    let tried = |arguments: &[&str]| {
        let output = program.command(arguments, &both).output().expect("it runs");
        assert_eq!(output.status.code(), Some(1), "{output:?}");
        (String::from_utf8_lossy(&output.stdout).into_owned(), String::from_utf8_lossy(&output.stderr).into_owned())
    };
    let (printed, failed) = tried(&["sealing", "rewrap", "--all"]);
    assert!(printed.contains("acme: 1 keys rewrapped") && printed.contains("beta: 2 keys rewrapped"), "{printed}");
    assert!(failed.contains("acme: key 0 is not rewrapped: the wrapped key does not unwrap"), "{failed}");
    let (printed, failed) = tried(&["sealing", "rotate", "--all"]);
    assert!(printed.contains("beta: data key 2 seals from now on"), "{printed}");
    assert!(failed.contains("acme: ") && failed.contains("(version 0)"), "{failed}");
    succeed(&program, &["import", "--tenant", "beta", "shop.toml"], &both);
    // A key that unwraps nothing is another one.
    let program = with_sales(&BARE);
    damage(&program, "version >= 0");
    let output = program.command(&["serve"], &BARE).output().expect("it runs");
    assert_eq!(output.status.code(), Some(2), "{output:?}");
    assert!(String::from_utf8_lossy(&output.stderr).contains("not the right one"), "{output:?}");
}

#[test]
fn a_dry_run_knows_that_its_tenant_was_erased() {
    let program = with_sales(&[]);
    program.succeed(&["tenant", "erase", "acme", "--yes"]);
    let dry_run = program.command(&["import", "--dry-run", "--tenant", "acme", "shop.toml"], &[]).output();
    assert_eq!(dry_run.expect("it runs").status.code(), Some(6));
    let refused = std::fs::read_to_string(program.path().join("orders.csv.rejected.csv")).expect("refused rows");
    assert!(refused.contains("erased"), "{refused}");
}

#[test]
fn data_keys_are_rotated_and_a_tenant_is_erased() {
    let program = with_sales(&[]);
    assert!(program.succeed(&["sealing", "status"]).contains("acme: data key 1 seals, 2 encrypted rows"));
    let said = program.succeed(&["sealing", "rotate", "--tenant", "acme"]);
    assert!(said.contains("acme: data key 2 seals from now on") && said.contains("2 customers resealed"), "{said}");
    let said = program.succeed(&["sealing", "resume", "--all"]);
    assert!(said.contains("data key 1 is not needed"), "{said}");
    assert!(program.succeed(&["sealing", "status"]).contains("acme: data key 2 seals, 2 encrypted rows"));
    program.fail(2, &["tenant", "erase", "other", "--yes"], &[]);
    assert!(!program.command(&["tenant", "erase", "acme"], &[]).status().expect("it runs").success());
    assert!(program.succeed(&["tenant", "erase", "acme", "--yes"]).contains("2 customers are cleared"));
    assert!(!program.succeed(&["sealing", "status"]).contains("acme"));
    assert!(program.succeed(&["sealing", "rotate", "--tenant", "acme"]).contains("acme: has no keys"));
    assert!(program.succeed(&["verify"]).contains("0 differ"));
}
