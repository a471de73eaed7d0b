//! Of persons who were recorded, nothing is to be found in the clear in whatever is left behind: database files and dumps,
//! write-ahead logs, Redis, the log at every level. What is not personal is found there by the same search.

use std::path::{Path, PathBuf};
use std::process::Command;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use memchr::memmem;
use reqwest::Client;
use serde_json::{Value, json};

use crate::command_line::Program;
use crate::support::test_redis_url;
use crate::telemetry::Served;

const NAME: &str = "Kanarina Gelbfeder";
const EMAIL: &str = "Kanarina.Gelbfeder@voliere.example";
const PHONE: &str = "+49 555 867 5309";
const ADDRESS: &str = "Kanarienweg 77, 12345 Federstadt";
/// Is not personal, and stored in the clear.
const CONTROL: &str = "Kontrollkanal-4711";

/// Ways in which a text may stand somewhere.
fn forms(text: &str) -> Vec<Vec<u8>> {
    let mut forms = vec![text.as_bytes().to_vec(), text.to_lowercase().into_bytes(), text.to_uppercase().into_bytes()];
    for form in forms.clone() {
        let hex: String = form.iter().map(|byte| format!("{byte:02x}")).collect();
        forms.extend([hex.to_uppercase().into_bytes(), hex.into_bytes()]);
        // In base64 a text looks in three ways, by where it begins; its ends depend on what is beside it.
        for before in 0..3 {
            let encoded = STANDARD.encode([&vec![b'x'; before], form.as_slice()].concat());
            forms.push(encoded.as_bytes()[4..encoded.len() - 4].to_vec());
        }
        let escaped = form_urlencoded::byte_serialize(&form).collect::<String>();
        forms.extend([escaped.replace('+', "%20").into_bytes(), escaped.into_bytes()]);
    }
    let wide: Vec<u16> = text.encode_utf16().collect();
    forms.push(wide.iter().flat_map(|unit| unit.to_le_bytes()).collect());
    forms.push(wide.iter().flat_map(|unit| unit.to_be_bytes()).collect());
    forms
}

fn holds(bytes: &[u8], text: &str) -> bool {
    forms(text).iter().any(|form| memmem::find(bytes, form).is_some())
}

/// What is searched, by name.
type Remains = Vec<(String, Vec<u8>)>;

/// Each place has the control, and none has a canary.
fn search(remains: &Remains) {
    assert!(!remains.is_empty());
    for (place, bytes) in remains {
        for canary in [NAME, EMAIL, PHONE, ADDRESS, "Gelbfeder", "Kanarienweg", "5558675309"] {
            assert!(!holds(bytes, canary), "{canary} is in {place}");
        }
    }
}

/// The control is in what was written to one of these places.
fn found_control(remains: &Remains, places: &str) {
    let found = remains.iter().any(|(place, bytes)| place.contains(places) && holds(bytes, CONTROL));
    assert!(found, "the search does not find what is in {places}");
}

fn read_files(folder: &Path, remains: &mut Remains) {
    for file in std::fs::read_dir(folder).expect("a folder") {
        let path = file.expect("an entry").path();
        if path.is_file() {
            remains.push((path.display().to_string(), std::fs::read(&path).expect("read")));
        }
    }
}

/// Everything that the database leaves behind.
fn database(served: &Served) -> Remains {
    let (mut remains, url) = (Remains::new(), served.test.owner_url());
    if !served.test.app.db.is_postgres() {
        let file = PathBuf::from(url.strip_prefix("sqlite://").expect("a file"));
        read_files(file.parent().expect("a folder"), &mut remains);
        assert!(remains.iter().any(|(place, _)| place.ends_with("-wal")), "{remains:?}");
        return remains;
    }
    let dump = Command::new("pg_dump")
        .arg(format!("--dbname={}", url.replace("salespulse_owner@", "salespulse_backup@")))
        .output()
        .expect("it runs");
    assert!(dump.status.success(), "{}", String::from_utf8_lossy(&dump.stderr));
    remains.push(("the dump".into(), dump.stdout));
    let data = PathBuf::from(std::env::var_os("TEST_POSTGRES_PID_FILE").expect("where PostgreSQL is"));
    read_files(&data.parent().expect("a folder").join("pg_wal"), &mut remains);
    remains
}

/// Every key of Redis, as it would be stored.
async fn redis(served: &Served) -> Remains {
    let Some(url) = test_redis_url() else { return Remains::new() };
    let client = redis::Client::open(url).expect("a URL");
    let mut connection = client.get_multiplexed_async_connection().await.expect("connected");
    redis::cmd("CONFIG").arg("SET").arg("rdbcompression").arg("no").exec_async(&mut connection).await.expect("set");
    let control = format!("control:{}", served.tenant);
    redis::cmd("SET").arg(&control).arg(CONTROL).exec_async(&mut connection).await.expect("set");
    let keys: Vec<String> = redis::cmd("KEYS").arg("*").query_async(&mut connection).await.expect("keys");
    assert!(
        keys.iter().any(|key| key.contains(&served.tenant) && *key != control),
        "batches went over Redis: {keys:?}"
    );
    let mut remains = Remains::new();
    for key in keys {
        // Other tests' keys may be gone by now.
        let dumped: Option<Vec<u8>> = redis::cmd("DUMP").arg(&key).query_async(&mut connection).await.expect("dumped");
        remains.extend(dumped.map(|bytes| (format!("Redis at {key}"), bytes)));
    }
    remains
}

fn sale(id: &str, when: &str) -> Value {
    json!({ "eventId": id, "occurredAt": when, "orderPlaced": {
        "orderId": id, "amount": "5.00", "channel": CONTROL,
        "customer": { "id": "c-1", "name": NAME, "email": EMAIL, "phone": PHONE, "address": ADDRESS } } })
}

/// Persons go in by every way there is, are looked for, exported and erased.
async fn use_it(served: &Served) {
    let data = async |query: &str, variables: Value| {
        let (_, answer) = served.post(json!({ "query": query, "variables": variables })).await;
        assert!(answer["errors"].is_null(), "{answer}");
        answer["data"].clone()
    };
    let alert = "mutation { createAlert(input: { name: \"Any\", metric: ORDERS_COUNT, condition: ABOVE, threshold: \"0\", \
                 recipients: [{ channel: EMAIL, target: \"ops@shop.example\" }] }) { id } }";
    data(alert, Value::Null).await;
    let now = chrono::DateTime::from_timestamp_micros(salespulse::clock::Clock::now(&salespulse::clock::SystemClock).0);
    let now = now.expect("a time").to_rfc3339();
    let record =
        "mutation($events: [SalesEventInput!]!) { recordEvents(events: $events) { results { outcome reason } } }";
    // Recorded, repeated, in conflict, refused.
    let mut conflict = sale("e1", &now);
    conflict["orderPlaced"]["customer"]["name"] = json!(format!("{NAME} jr"));
    let events = json!([sale("e1", &now), sale("e1", &now), conflict, sale("e2", "2100-01-01T00:00:00Z")]);
    let recorded = data(record, json!({ "events": events })).await;
    let outcomes = recorded["recordEvents"]["results"].as_array().expect("results");
    let outcomes: Vec<&str> = outcomes.iter().filter_map(|result| result["outcome"].as_str()).collect();
    assert_eq!(outcomes, ["APPLIED", "REPEATED", "REFUSED", "REFUSED"]);
    let list = "query($email: String) { customers(email: $email) { nodes { id name email phone address } } }";
    let found = data(list, json!({ "email": EMAIL })).await["customers"]["nodes"].take();
    assert_eq!((&found[0]["name"], &found[0]["phone"]), (&json!(NAME), &json!(PHONE)));
    let query = format!("{{ customers(phone: \"{PHONE}\") {{ nodes {{ address }} }} }}");
    let query = form_urlencoded::byte_serialize(query.as_bytes()).collect::<String>();
    let url = format!("http://{}/graphql?query={query}", served.api);
    let got =
        Client::new().get(url).bearer_auth(&served.token).send().await.expect("answered").text().await.expect("text");
    assert!(got.contains(ADDRESS), "{got}");
    import(served);
    let rotated = data("mutation { rotateKeys { rowsLeft } }", Value::Null).await;
    assert_eq!(rotated["rotateKeys"]["rowsLeft"], 2);
    let exported =
        data("mutation($id: ID!) { exportCustomer(customerId: $id) }", json!({ "id": found[0]["id"] })).await;
    assert_eq!(exported["exportCustomer"]["customer"]["profile"]["email"], EMAIL);
    data("mutation($id: ID!) { eraseCustomer(customerId: $id) { id } }", json!({ "id": found[0]["id"] })).await;
}

/// A file of orders, of which one is refused.
fn import(served: &Served) {
    const MAPPING: &str = "name = \"shop\"\n[[feeds]]\nname = \"orders\"\nfact = \"order\"\nfile = { path = \"orders.csv\" }\n\
        id = \"{#}\"\ntime = \"{time}\"\namount = \"{amount}\"\nchannel = \"{channel}\"\ncustomer = \"c-2\"\ncustomer_name = \"{name}\"\n\
        customer_email = \"{email}\"\ncustomer_phone = \"{phone}\"\ncustomer_address = \"{address}\"\n";
    let program = Program::new();
    let row = |amount: &str| format!("2026-01-01 10:00,{amount},{CONTROL},{NAME},{EMAIL},{PHONE},\"{ADDRESS}\"\n");
    let rows = format!("time,amount,channel,name,email,phone,address\n{}{}", row("1.25"), row("much"));
    std::fs::write(program.path().join("orders.csv"), rows).expect("written");
    std::fs::write(program.path().join("shop.toml"), MAPPING).expect("written");
    let redis = test_redis_url().unwrap_or_default();
    let settings =
        [("DATABASE_URL", served.test.server_url()), ("REDIS_URL", &redis), ("SALESPULSE_LOG_LEVEL", "trace")];
    let output = program.command(&["import", "--tenant", "acme", "shop.toml"], &settings).output().expect("it runs");
    assert_eq!(output.status.code(), Some(6), "{output:?}");
    search(&vec![("the import's output".into(), [output.stdout, output.stderr].concat())]);
    // Refused rows are for whoever has the file they are of, and for nobody else.
    let refused = std::fs::metadata(program.path().join("orders.csv.rejected.csv")).expect("a file");
    #[cfg(unix)]
    assert_eq!(std::os::unix::fs::PermissionsExt::mode(&refused.permissions()) & 0o777, 0o600);
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_personal_is_left_in_the_clear() {
    let served = Served::start(&[]).await;
    use_it(&served).await;
    let mut remains = database(&served);
    remains.extend(redis(&served).await);
    found_control(&remains, if served.test.app.db.is_postgres() { "the dump" } else { "test.db" });
    found_control(&remains, if served.test.app.db.is_postgres() { "pg_wal" } else { "-wal" });
    if test_redis_url().is_some() {
        found_control(&remains, "Redis");
    }
    let lines = served.stop();
    assert!(lines.iter().filter(|line| line["message"] == "answered").count() >= 7, "{lines:#?}");
    let lines: String = lines.iter().map(|line| format!("{line}\n")).collect();
    assert!(lines.contains("the-request.1"), "the log has what it may have");
    remains.push(("the log".into(), lines.into_bytes()));
    search(&remains);
}

#[test]
fn what_is_in_the_clear_is_found_in_every_form() {
    for form in forms(EMAIL) {
        assert!(holds(&[b"before ", form.as_slice(), b" after"].concat(), EMAIL));
    }
    for before in ["", "a", "ab", "abc"] {
        let encoded = STANDARD.encode(format!("{before}{EMAIL} and more"));
        assert!(holds(encoded.as_bytes(), EMAIL), "{encoded}");
    }
    assert!(!holds(b"nothing of it", EMAIL));
}
