//! `salespulse verify isolation`: it finds nothing, and whatever guard is taken away is missed.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex};

use salespulse::app::App;
use salespulse::auth::token::Tokens;
use salespulse::isolation::{Report, verify};
use salespulse::server::Options;

use crate::support::{SECRET, TestApp};

#[tokio::test]
async fn nothing_of_a_tenant_shows_in_another() {
    let test = TestApp::start().await;
    let report = verify(&test.app, &Options::default()).await.expect("it runs");
    assert!(report.findings.is_empty(), "{report}");
    println!("{report}");
    assert!(report.questions > 300 && report.compared > 5 * report.questions, "{report}");
    assert_eq!(report.empty, ["integrations", "user_identities"], "{report}");
    // It may be run again, with the tenants that are there.
    let again = verify(&test.app, &Options::default()).await.expect("it runs again");
    assert!(again.findings.is_empty(), "{again}");
}
