//! The permissions of root fields: checked before arguments are, and behind that by the guards of the resolvers.

use std::collections::HashMap;
use std::sync::Arc;

use async_graphql::parser::parse_schema;
use async_graphql::parser::types::{
    BaseType, FieldDefinition, InputValueDefinition, ObjectType, Type, TypeKind, TypeSystemDefinition,
};
use async_graphql::resolver_utils::enum_value;
use async_graphql::{Request, Response};
use futures_util::StreamExt;
use salespulse::auth::{Permission, Role};
use salespulse::schema::{self, permission_of};
use serde_json::{Value, json};

use crate::support::{Actor, Server, TestApp, TestTenant};

/// A root field of the schema.
struct Root {
    kind: &'static str,
    field: FieldDefinition,
}

/// The schema's root fields, and what its other types are.
struct Contract {
    roots: Vec<Root>,
    types: HashMap<String, TypeKind>,
}

impl Contract {
    fn of(sdl: &str) -> Contract {
        let definitions = parse_schema(sdl).expect("a schema").definitions;
        let types = definitions.into_iter().filter_map(|definition| match definition {
            TypeSystemDefinition::Type(ty) => Some((ty.node.name.node.to_string(), ty.node.kind)),
            _ => None,
        });
        let types: HashMap<_, _> = types.collect();
        let roots = [("query", "Query"), ("mutation", "Mutation"), ("subscription", "Subscription")];
        let roots = roots.into_iter().flat_map(|(kind, name)| {
            let TypeKind::Object(ObjectType { fields, .. }) = &types[name] else { panic!("{name} is no object") };
            fields.iter().map(move |field| Root { kind, field: field.node.clone() })
        });
        Contract { roots: roots.collect(), types }
    }

    /// A value that fits.
    fn good(&self, ty: &Type) -> String {
        let name = match &ty.base {
            BaseType::List(inner) => return format!("[{}]", self.good(inner)),
            BaseType::Named(name) => name.as_str(),
        };
        match (self.types.get(name), name) {
            (_, "Int") => "1".into(),
            (_, "Boolean") => "true".into(),
            (_, "DateTime") => r#""2026-06-01T00:00:00Z""#.into(),
            (_, "Date") => r#""2026-06-01""#.into(),
            (_, "Decimal") => r#""1""#.into(),
            (_, "Currency") => r#""GBP""#.into(),
            (_, "TimeZone") => r#""UTC""#.into(),
            (Some(TypeKind::Enum(of)), _) => of.values[0].node.value.node.to_string(),
            (Some(TypeKind::InputObject(of)), _) => {
                let fields = of.fields.iter().map(|field| &field.node).filter(|field| is_required(field));
                let fields = fields.map(|field| format!("{}: {}", field.name.node, self.good(&field.ty.node)));
                format!("{{ {} }}", fields.collect::<Vec<_>>().join(", "))
            }
            _ => r#""x""#.into(),
        }
    }

    /// A document that selects the field, and nothing of it but its type, with a value for each argument that has one.
    fn document(&self, root: &Root, variable: &str, value: impl Fn(&InputValueDefinition) -> Option<String>) -> String {
        let Root { kind, field } = root;
        let arguments = field.arguments.iter().map(|argument| &argument.node);
        let arguments = arguments.filter_map(|of| Some(format!("{}: {}", of.name.node, value(of)?)));
        let arguments = arguments.collect::<Vec<_>>().join(", ");
        let arguments = if arguments.is_empty() { arguments } else { format!("({arguments})") };
        let BaseType::Named(name) = innermost(&field.ty.node.base) else { unreachable!("innermost") };
        let is_object = matches!(self.types.get(name.as_str()), Some(TypeKind::Object(_)));
        let selected = if is_object { "{ __typename }" } else { "" };
        format!("{kind}{variable} {{ {}{arguments} {selected} }}", field.name.node)
    }
}

fn innermost(base: &BaseType) -> &BaseType {
    match base {
        BaseType::List(inner) => innermost(&inner.base),
        named => named,
    }
}

fn is_required(argument: &InputValueDefinition) -> bool {
    !argument.ty.node.nullable && argument.default_value.is_none()
}

/// Somebody with these permissions alone.
fn with<'a>(tenant: &TestTenant<'a>, permissions: &[Permission]) -> Actor<'a> {
    let mut actor = tenant.admin();
    actor.caller.permissions = permissions.to_vec();
    actor
}

/// The code and message of the one error, as what comes of it may fail too.
fn first_error(response: &Response) -> (String, String) {
    let error = response.errors.first().unwrap_or_else(|| panic!("{response:?}"));
    let code = error.extensions.as_ref().and_then(|extensions| extensions.get("code"));
    (code.map(|code| code.to_string().replace('"', "")).unwrap_or_default(), error.message.clone())
}

#[tokio::test]
async fn who_lacks_the_permission_is_told_so_whatever_the_arguments_are_and_nothing_is_read() {
    let test = TestApp::start().await;
    let acme = test.tenant("acme").await;
    let contract = Contract::of(&schema::build(test.app.clone()).sdl());
    let mut tried = 0;
    for root in &contract.roots {
        let Some(needed) = permission_of(&root.field.name.node) else { continue };
        let others: Vec<_> = Role::Admin.permissions().iter().copied().filter(|of| *of != needed).collect();
        let (lacking, having) = (with(&acme, &others), with(&acme, &[needed]));
        let required = |of: &InputValueDefinition| is_required(of).then(|| contract.good(&of.ty.node));
        let mut asked = vec![(contract.document(root, "", required), Value::Null)];
        for wrong in root.field.arguments.iter().map(|argument| &argument.node) {
            let with_wrong = |value: &'static str| {
                move |of: &InputValueDefinition| {
                    if of.name == wrong.name { Some(value.to_owned()) } else { required(of) }
                }
            };
            asked.push((contract.document(root, "", with_wrong("{ nonsense: 1 }")), Value::Null));
            let variable = format!("($wrong: {})", wrong.ty.node);
            let variables = json!({ "wrong": { "nonsense": 1 } });
            asked.push((contract.document(root, &variable, with_wrong("$wrong")), variables));
        }
        for (n, (document, variables)) in asked.into_iter().enumerate() {
            let before = test.app.db.statements();
            let response = lacking.run(&document, variables.clone()).await;
            let (code, message) = first_error(&response);
            assert_eq!((response.errors.len(), code.as_str()), (1, "FORBIDDEN"), "{document}: {response:?}");
            assert!(message.contains(&format!("the permission {},", enum_value(needed))), "{document}: {message}");
            assert_eq!(test.app.db.statements(), before, "{document}");
            // It was the arguments that were wrong.
            if n > 0 {
                assert_eq!(first_error(&having.run(&document, variables).await).0, "BAD_USER_INPUT", "{document}");
            }
            tried += 1;
        }
    }
    assert!(tried > 200, "{tried}");
}

/// The executor aside, which has left such fields out: whoever calls a resolver meets the same permission.
#[tokio::test]
async fn the_guard_of_each_resolver_asks_for_the_permission_that_its_field_needs() {
    let test = TestApp::start().await;
    let acme = test.tenant("acme").await;
    let schema = schema::build(test.app.clone());
    let contract = Contract::of(&schema.sdl());
    let caller = Arc::new(with(&acme, &[]).caller);
    for root in &contract.roots {
        let document = contract.document(root, "", |of| is_required(of).then(|| contract.good(&of.ty.node)));
        let request = Request::new(&document).data(Arc::clone(&caller));
        let response = schema.execute_stream(request).boxed().next().await.expect("an answer");
        let said = response.errors.first().map(|error| error.message.clone()).unwrap_or_default();
        match permission_of(&root.field.name.node) {
            Some(needed) => {
                let expected = format!("this needs the permission {}, which", enum_value(needed));
                assert!(said.starts_with(&expected), "{document}: {said}");
            }
            None => assert!(!said.contains("needs the permission"), "{document}: {said}"),
        }
    }
}

#[tokio::test]
async fn a_field_that_its_caller_may_not_use_takes_nothing_along() {
    let test = TestApp::start().await;
    let acme = test.tenant("acme").await;
    let viewer = acme.viewer();
    let query = "query($n: Int, $no: Boolean = false) { me { role } ...Hidden ... { b: auditLog(first: 1000) { totalCount } } \
                 users(first: $n) @include(if: $no) { totalCount } } \
                 fragment Hidden on Query { a: users(first: $n) { ...Count } a: users(first: $n) { nodes { state } } } \
                 fragment Count on MemberConnection { totalCount }";
    let response = viewer.run(query, json!({ "n": 1000 })).await;
    assert_eq!(serde_json::to_string(&response.data).expect("JSON"), r#"{"me":{"role":"VIEWER"},"a":null,"b":null}"#);
    let errors: Vec<Value> = response.errors.iter().map(|error| serde_json::to_value(error).expect("JSON")).collect();
    let told: Vec<_> = errors.iter().map(|error| (&error["path"], &error["extensions"]["code"])).collect();
    assert_eq!(told, [(&json!(["a"]), &json!("FORBIDDEN")), (&json!(["b"]), &json!("FORBIDDEN"))], "{errors:?}");
    assert!(errors.iter().all(|error| error["locations"][0]["line"] == 1), "{errors:?}");
    // What is left is validated as ever.
    let beside = r#"{ users { totalCount } customers(first: "x") { totalCount } }"#;
    viewer.refused(beside, "first").await;
    // Of mutations, the others are executed, and what must not be null takes the answer along.
    let response = viewer
        .run("mutation { deleteTeam(id: \"x\") createDashboard(input: { name: \"Mine\" }) { name } }", Value::Null)
        .await;
    assert_eq!(first_error(&response).0, "FORBIDDEN", "{response:?}");
    let made = viewer.query("{ dashboards { nodes { name } } }").await;
    assert_eq!(made["dashboards"]["nodes"], json!([{ "name": "Mine" }]));
    // What depends on an argument is checked before the others are.
    let search = r#"{ customers(first: 101, email: "a@b.example") { totalCount } }"#;
    assert_eq!(viewer.error_code(search).await, "FORBIDDEN");
    let key = r#"mutation { createApiKey(input: { name: "", permissions: [USERS_MANAGE] }) { secret } }"#;
    assert_eq!(with(&acme, &[Permission::IntegrationsManage]).error_code(key).await, "FORBIDDEN");
}

#[tokio::test]
async fn events_of_who_may_not_record_any_are_not_looked_at() {
    let test = TestApp::start().await;
    let acme = test.tenant("acme").await;
    let server = Server::start(&test).await;
    for (actor, status) in [(acme.viewer(), 403), (acme.admin(), 400)] {
        let request = reqwest::Client::new().post(format!("http://{}/v1/events", server.address));
        let request = request.bearer_auth(actor.token()).header("content-type", "application/json");
        let answer = request.body(r#"{"events": "nonsense"}"#).send().await.expect("an answer");
        assert_eq!(answer.status().as_u16(), status);
    }
    server.stop().await;
}
