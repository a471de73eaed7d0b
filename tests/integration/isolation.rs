//! `salespulse verify isolation` finds nothing.

use salespulse::clock::{SECOND, Timestamp};
use salespulse::isolation::client::Transport;
use salespulse::isolation::{Extent, verify};
use salespulse::server::Options;

use crate::support::{NOW, TestApp, test_redis_url};

/// Tables in which the tenants made for it have nothing: it is of tenants with several currencies, of whom many questions
/// cannot be asked.
const EMPTY: [&str; 1] = ["other_revenue"];

#[tokio::test]
async fn nothing_of_a_tenant_shows_in_another() {
    let test = TestApp::start().await;
    let beside = test.another().await;
    let verify = async |transports| {
        let extent = Extent { transports, ends_when_found: false };
        verify(&test.app, &beside, &Options::default(), &extent).await.expect("it runs")
    };
    let report = verify(&Transport::QUERIES).await;
    assert!(report.findings.is_empty(), "{report}");
    assert!(report.batches >= 3, "{report}");
    assert_eq!(report.shared_batches.map(|batches| batches >= 3), test_redis_url().map(|_| true), "{report}");
    assert!(report.questions > 200 && report.compared > 2 * report.questions, "{report}");
    assert_eq!(report.empty, EMPTY, "{report}");
    // It may be run again, with the tenants that are there.
    test.clock.set(Timestamp(NOW.0 + SECOND));
    let again = verify(&[Transport::Post]).await;
    assert!(again.findings.is_empty(), "{again}");
}
