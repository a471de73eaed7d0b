//! What is made to bring a server down, each refused with its code, in few bytes, by a process that goes on.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use reqwest::header::{ACCEPT, CONTENT_TYPE};
use serde_json::{Value, json};

use crate::socket_protocol::Raw;
use crate::support::{Actor, Server, TestApp};

const ANSWER_BYTES_MAX: usize = 4096;
/// What a socket takes at once, less what is around it.
const MESSAGE_BYTES_MAX: usize = 255 << 10;
/// Far from what is taken, which is printed, and from what a busy machine takes.
const LONG: Duration = Duration::from_secs(10);
/// What the process may grow by while it refuses all once more, at the end.
const GROWTH_MIB_MAX: usize = 32;
/// Rounds after which memory must have become flat.
const ROUNDS_MAX: usize = 6;

/// A document with its variables, and the code that it is refused with.
struct Document {
    what: &'static str,
    /// Whether it is refused only where it runs, as a wrong value of an argument is.
    is_run: bool,
    code: &'static str,
    query: String,
    variables: Value,
}

/// `levels` fragments, each of which spreads the next one twice.
fn fragment_bomb(levels: usize) -> String {
    let fragments = (0..levels).map(|n| format!(" fragment f{n} on Query {{ ...f{} ...f{} }}", n + 1, n + 1));
    format!("{{ ...f0 }} {} fragment f{levels} on Query {{ me {{ id }} }}", fragments.collect::<String>())
}

fn numbered(count: usize, part: impl Fn(usize) -> String) -> String {
    (0..count).map(part).collect()
}

fn documents() -> Vec<Document> {
    let long = "x".repeat(90_000);
    let plain = |what, code, query: String| Document { what, is_run: false, code, query, variables: json!({}) };
    let run = |what, query: String| Document { is_run: true, ..plain(what, "BAD_USER_INPUT", query) };
    let with = |what, query: &str, variables| Document { variables, ..plain(what, "BAD_USER_INPUT", query.to_owned()) };
    let nested = |open: &str, close: &str, depth| format!("{}a{}", open.repeat(depth), close.repeat(depth));
    let metrics = |argument: &str| format!("{{ salesMetrics({argument}) {{ ordersCount }} }}");
    vec![
        plain("a list that is never closed", "QUERY_TOO_DEEP", format!("{{ a(b: {}", "[".repeat(50_000))),
        plain("a deep list", "QUERY_TOO_DEEP", format!("{{ a(b: {}{}) }}", "[".repeat(20_000), "]".repeat(20_000))),
        plain("deep objects", "QUERY_TOO_DEEP", format!("{{ a(b: {}) }}", nested("{a:", "}", 10_000))),
        plain("deep types", "QUERY_TOO_DEEP", format!("query($a: {}) {{ a }}", nested("[", "]", 20_000))),
        plain("deep selections", "QUERY_TOO_DEEP", nested("{ a ", "}", 5_000)),
        plain("selections as deep as the parser may go", "QUERY_TOO_DEEP", nested("{ a ", "}", 64)),
        run("a list as deep as the parser may go", {
            metrics(&format!("period: {}{}", "[".repeat(60), "]".repeat(60)))
        }),
        plain("fragments that spread themselves", "GRAPHQL_VALIDATION_FAILED", {
            "{ ...a } fragment a on Query { ...b } fragment b on Query { ...c } fragment c on Query { ...a }".to_owned()
        }),
        plain("a fragment that spreads itself", "GRAPHQL_VALIDATION_FAILED", {
            "{ ...a } fragment a on Query { ...a ...a }".to_owned()
        }),
        plain("a bomb of fragments", "QUERY_TOO_COMPLEX", fragment_bomb(40)),
        plain("a long chain of fragments", "QUERY_TOO_DEEP", fragment_bomb(1_000)),
        plain("fragments nobody asked for", "GRAPHQL_VALIDATION_FAILED", {
            format!("{{ __typename }} {}", numbered(1_400, |n| format!("fragment f{n} on Query {{ me {{ id }} }} ")))
        }),
        plain("fragments on types that are not there", "GRAPHQL_VALIDATION_FAILED", {
            format!("{{ {} }}", numbered(2_000, |n| format!("... on T{n} {{ a }} ")))
        }),
        plain(
            "a flood of aliases",
            "TOO_MANY_ALIASES",
            format!("{{ {} }}", numbered(3_000, |n| format!("a{n}: __typename "))),
        ),
        plain("a flood of directives", "TOO_MANY_DIRECTIVES", format!("{{ me {} {{ id }} }}", "@a ".repeat(7_000))),
        plain("a flood of @skip", "TOO_MANY_DIRECTIVES", {
            format!("{{ me {{ {} }} }}", "id @skip(if: true) ".repeat(1_000))
        }),
        plain("@skip over and over on one field", "GRAPHQL_VALIDATION_FAILED", {
            format!("{{ me {{ id {} }} }}", "@skip(if: false) ".repeat(50))
        }),
        plain("a flood of directives of an operation", "TOO_MANY_DIRECTIVES", {
            format!("query q {} {{ __typename }}", "@a ".repeat(7_000))
        }),
        plain("one field over and over", "QUERY_TOO_COMPLEX", format!("{{ me {{ {} }} }}", "id ".repeat(14_000))),
        plain("fields that are not there", "GRAPHQL_VALIDATION_FAILED", {
            format!("{{ {} }}", numbered(4_900, |n| format!("nothing{n} ")))
        }),
        plain("a field with a name without end", "GRAPHQL_VALIDATION_FAILED", format!("{{ {long} }}")),
        plain("fields with long names", "GRAPHQL_VALIDATION_FAILED", {
            format!("{{ {} }}", numbered(90, |n| format!("{}{n} ", &long[..1_000])))
        }),
        plain("arguments that are not there", "GRAPHQL_VALIDATION_FAILED", {
            format!("{{ me({}) {{ id }} }}", numbered(3_000, |n| format!("a{n}: 1 ")))
        }),
        plain("one argument over and over", "GRAPHQL_VALIDATION_FAILED", {
            format!("{{ customers({}) {{ totalCount }} }}", "first: 1 ".repeat(3_000))
        }),
        plain("variables that are not used", "GRAPHQL_VALIDATION_FAILED", {
            format!("query({}) {{ __typename }}", numbered(3_000, |n| format!("$v{n}: Int ")))
        }),
        plain("variables that are not declared", "GRAPHQL_VALIDATION_FAILED", {
            format!("{{ customers(first: $a, after: $b, last: {}) {{ totalCount }} }}", "$c ")
        }),
        plain("thousands of operations", "OPERATION_RESOLUTION_FAILURE", {
            numbered(3_000, |n| format!("query q{n} {{ __typename }} "))
        }),
        plain(
            "thousands of operations of one name",
            "OPERATION_RESOLUTION_FAILURE",
            "query q { __typename } ".repeat(3_000),
        ),
        plain(
            "thousands of operations without a name",
            "OPERATION_RESOLUTION_FAILURE",
            "{ __typename } ".repeat(3_000),
        ),
        plain("an endless string", "GRAPHQL_PARSE_FAILED", format!("{{ a(b: \"{long}")),
        plain("an endless block string", "GRAPHQL_PARSE_FAILED", format!("{{ a(b: \"\"\"{long}")),
        plain("brackets behind a block string that is not closed", "GRAPHQL_PARSE_FAILED", {
            format!("{{ a(b: [\"\"\" \" {} }}", "[".repeat(50_000))
        }),
        plain("escapes without end", "GRAPHQL_PARSE_FAILED", format!("{{ a(b: \"{}", "\\\"".repeat(40_000))),
        plain(
            "half a surrogate",
            "GRAPHQL_PARSE_FAILED",
            "{ customers(email: \"\\uD800\") { totalCount } }".to_owned(),
        ),
        plain("a NUL", "GRAPHQL_PARSE_FAILED", "{ me\0 { id } }".to_owned()),
        plain("too many tokens", "QUERY_TOO_LARGE", "a ".repeat(40_000)),
        plain("too many bytes", "QUERY_TOO_LARGE", format!("{{ a(b: \"{}\") }}", "x".repeat(200_000))),
        plain("nothing but blanks", "BAD_REQUEST", " ".repeat(90_000)),
        plain("nothing but a comment", "GRAPHQL_PARSE_FAILED", format!("#{long}")),
        plain(
            "a number of many digits",
            "GRAPHQL_PARSE_FAILED",
            format!("{{ customers(first: {}) {{ totalCount }} }}", "9".repeat(90_000)),
        ),
        plain(
            "a number with a large exponent",
            "GRAPHQL_PARSE_FAILED",
            "{ customers(first: 1e999999999) { totalCount } }".to_owned(),
        ),
        plain("fragments that end in none", "GRAPHQL_VALIDATION_FAILED", {
            let fragment = |n: usize| format!(" fragment f{n} on Query {{ ...f{} ...f{} }}", n + 1, n + 1);
            format!("{{ ...f0 }}{}", numbered(40, fragment))
        }),
        plain("a name of an enum without end", "BAD_USER_INPUT", metrics(&format!("period: {{ preset: {long} }}"))),
        plain("pages within pages", "QUERY_TOO_COMPLEX", {
            "{ orders(first: 100) { nodes { customer { orders(first: 100) { nodes { customer { orders(first: 100) { \
             nodes { id } } } } } } } } }"
                .to_owned()
        }),
        plain("a subscription to everything", "GRAPHQL_VALIDATION_FAILED", {
            format!("subscription {{ {} }}", "metricsUpdated(tenantId: \"x\") { ordersCount } ".repeat(500))
        }),
        with("a variable with a long name", &format!("query(${long}: Int!) {{ __typename }}"), json!({})),
        with("a variable of a long type", &format!("query($a: {long}!) {{ __typename }}"), json!({})),
        with(
            "a number for a variable of another kind",
            "query($a: Int) { customers(first: $a) { totalCount } }",
            json!({ "a": 1e300 }),
        ),
        with(
            "a giant list as a variable",
            "query($a: Int) { customers(first: $a) { totalCount } }",
            json!({ "a": vec![1; 200_000] }),
        ),
        with(
            "a giant text as a variable",
            "query($a: Int) { customers(first: $a) { totalCount } }",
            json!({ "a": "x".repeat(200_000) }),
        ),
        with(
            "a list of lists as a variable",
            "query($a: [Int]) { customers(first: $a) { totalCount } }",
            json!({ "a": [[[[[[[[[[[[[[[[[[[[[[[[[[[[1]]]]]]]]]]]]]]]]]]]]]]]]]]]] }),
        ),
    ]
}

/// A body that is no request, and what it is answered.
fn bodies() -> Vec<(&'static str, u16, &'static str, Vec<u8>)> {
    let quoted = |bytes: &[u8]| [br#"{"query":""#.as_slice(), bytes, br#""}"#].concat();
    let batch = |count: usize| json!(vec![json!({ "query": "{ me { id } }" }); count]).to_string().into_bytes();
    vec![
        ("bytes that are no UTF-8", 400, "BAD_REQUEST", quoted(b"{ me { \xff\xfe } }")),
        ("UTF-8 of half a surrogate", 400, "BAD_REQUEST", quoted(b"{ \xed\xa0\x80 }")),
        ("UTF-8 that is too long for its character", 400, "BAD_REQUEST", quoted(b"{ \xc0\xaf }")),
        ("half a surrogate as JSON writes it", 400, "BAD_REQUEST", quoted(br"\ud800")),
        ("JSON that is deep", 400, "BAD_REQUEST", b"[".repeat(500_000)),
        ("JSON that is deep in its variables", 400, "BAD_REQUEST", {
            format!(r#"{{"query":"{{a}}","variables":{{"a":{}{}}}}}"#, "[".repeat(100), "]".repeat(100)).into_bytes()
        }),
        (
            "a string that is not closed",
            400,
            "BAD_REQUEST",
            [br#"{"query":""#.as_slice(), &b"x".repeat(500_000)].concat(),
        ),
        ("a number of many digits", 400, "BAD_REQUEST", {
            format!(r#"{{"query":"{{a}}","variables":{}}}"#, "9".repeat(500_000)).into_bytes()
        }),
        ("a number that is no number", 400, "BAD_REQUEST", br#"{"query":"{a}","variables":{"a":1e999999}}"#.to_vec()),
        ("many members", 400, "BAD_REQUEST", {
            format!("{{{}}}", numbered(50_000, |n| format!("\"a{n}\":1,")).trim_end_matches(',')).into_bytes()
        }),
        ("blanks", 400, "BAD_REQUEST", b" ".repeat(1 << 20)),
        ("nothing", 400, "BAD_REQUEST", Vec::new()),
        ("more than a body may have", 413, "PAYLOAD_TOO_LARGE", b" ".repeat((1 << 20) + 1)),
        ("an empty batch", 400, "BATCH_NOT_ALLOWED", batch(0)),
        ("a large batch", 400, "BATCH_NOT_ALLOWED", batch(20_000)),
        (
            "a batch of batches",
            400,
            "BATCH_NOT_ALLOWED",
            json!([[{ "query": "{ me { id } }" }]]).to_string().into_bytes(),
        ),
    ]
}

struct Client<'a> {
    server: &'a Server,
    viewer: Actor<'a>,
    http: reqwest::Client,
    slowest: (Duration, &'static str),
    /// What was answered otherwise.
    wrong: BTreeSet<String>,
}

impl Client<'_> {
    async fn post(&self, what: &str, body: Vec<u8>) -> (u16, Vec<u8>) {
        let url = format!("http://{}/graphql", self.server.address);
        for _ in 0..20 {
            let request = self.http.post(&url).bearer_auth(self.viewer.token()).body(body.clone()).timeout(LONG);
            let request =
                request.header(CONTENT_TYPE, "application/json").header(ACCEPT, "application/graphql-response+json");
            match request.send().await {
                Ok(answer) => return (answer.status().as_u16(), answer.bytes().await.expect("a body").to_vec()),
                // A body that is too long is not read: the answer is lost where the rest of it meets a closed connection.
                Err(error) if error.is_request() && !error.is_timeout() => {}
                Err(error) => panic!("{what}: {error}"),
            }
        }
        panic!("{what}: no answer");
    }

    async fn refused_by_http(&mut self, what: &'static str, body: Vec<u8>, status: u16, code: &str) {
        let begun = Instant::now();
        let (found, answer) = self.post(what, body).await;
        self.took(what, begun);
        let text = String::from_utf8(answer).expect("text");
        let answer: Value = serde_json::from_str(&text).unwrap_or_default();
        self.check(what, &text, (found, code_of(&answer["errors"])) == (status, code) && answer["data"].is_null());
    }

    /// The socket stays open beside it.
    async fn refused_by_socket(&mut self, what: &'static str, asked: &Value, is_run: bool, code: &str) {
        let mut raw = Raw::acknowledged_as(self.server, &self.viewer).await;
        let begun = Instant::now();
        raw.say(json!({ "type": "subscribe", "id": "1", "payload": asked })).await;
        let answer = raw.hear().await;
        self.took(what, begun);
        let (kind, errors) =
            if is_run { ("next", &answer["payload"]["errors"]) } else { ("error", &answer["payload"]) };
        self.check(what, &answer.to_string(), (&answer["type"], code_of(errors)) == (&json!(kind), code));
        if answer["type"] == "next" {
            assert_eq!(raw.hear().await["type"], "complete");
        }
        raw.say(json!({ "type": "ping" })).await;
        assert_eq!(raw.hear().await, json!({ "type": "pong" }), "{what}");
    }

    fn check(&mut self, what: &str, answer: &str, is_good: bool) {
        if !is_good || answer.len() > ANSWER_BYTES_MAX {
            self.wrong.insert(format!("{what}: {} bytes {:.300}", answer.len(), answer));
        }
    }

    fn took(&mut self, what: &'static str, begun: Instant) {
        let time = begun.elapsed();
        assert!(time < LONG, "{what}: {time:?}");
        self.slowest = self.slowest.max((time, what));
    }
}

/// The code that all errors have.
fn code_of(errors: &Value) -> &str {
    let mut codes = errors.as_array().into_iter().flatten().map(|error| &error["extensions"]["code"]);
    let first = codes.next().and_then(Value::as_str).unwrap_or_default();
    if codes.all(|code| code == first) { first } else { "" }
}

/// What the process has in memory, in MiB; nothing where that cannot be read.
fn resident_mib() -> usize {
    let statm = std::fs::read_to_string("/proc/self/statm").unwrap_or_default();
    statm.split(' ').nth(1).and_then(|pages| pages.parse::<usize>().ok()).unwrap_or_default() * 4 / 1024
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_hostile_is_refused_in_few_bytes_by_a_process_that_goes_on() {
    let test = TestApp::start().await;
    let acme = test.tenant("acme").await;
    let server = Server::start(&test).await;
    let (viewer, http) = (acme.viewer(), reqwest::Client::new());
    let mut client = Client { server: &server, viewer, http, slowest: Default::default(), wrong: BTreeSet::new() };
    // What is at hand for later grows for some rounds; a leak grows with each.
    let (mut rounds, mut is_flat) = (Vec::<usize>::new(), false);
    while !is_flat && rounds.len() < ROUNDS_MAX {
        for Document { what, is_run, code, query, variables } in documents() {
            let asked = json!({ "query": query, "variables": variables });
            let body = asked.to_string().into_bytes();
            if body.len() < MESSAGE_BYTES_MAX {
                client.refused_by_socket(what, &asked, is_run, code).await;
            }
            client.refused_by_http(what, body, if is_run { 200 } else { 400 }, code).await;
        }
        for (what, status, code, body) in bodies() {
            client.refused_by_http(what, body, status, code).await;
        }
        let now = resident_mib();
        println!("{now} MiB, {} took {:?}", client.slowest.1, client.slowest.0);
        is_flat = rounds.last().is_some_and(|before| now <= before + GROWTH_MIB_MAX);
        rounds.push(now);
    }
    assert!(is_flat, "MiB after each round: {rounds:?}");
    assert!(client.wrong.is_empty(), "{:#?}", client.wrong);
    let (status, answer) =
        client.post("what is good", json!({ "query": "{ me { role } }" }).to_string().into_bytes()).await;
    assert_eq!((status, answer.as_slice()), (200, br#"{"data":{"me":{"role":"VIEWER"}}}"#.as_slice()));
    server.stop().await;
}
