//! Isolation of streams and feeds: a subscriber of a tenant receives what is in the tenant's ledger, and nothing else.

use std::time::Duration;

use super::Run;
use super::canary::Canary;
use crate::app::App;
use crate::error::{Error, Result};
use crate::ledger::tail::read_entries;
use crate::stream::{CommittedBatch, Listener, ListenerEvent};

/// A batch that takes longer is considered lost.
const HEARD_WAIT: Duration = Duration::from_secs(5);

/// Within one process, and, where batches are shared between processes, from another one.
pub async fn run(run: &mut Run<'_>, own: &Canary, other: &Canary) -> Result<()> {
    let (app, beside) = (run.app, run.beside);
    let both = [own, other];
    run.report.batches = follow(run, both, async |of| Ok(app.feeds.follow(of.tenant).await?.0)).await?;
    run.report.batches += follow(run, both, async |of| listen(app, of).await).await?;
    if beside.stream.is_shared() {
        let batches = follow(run, both, async |of| listen(beside, of).await).await?;
        run.report.shared_batches = Some(batches);
    }
    Ok(())
}

async fn listen(app: &App, of: &Canary) -> Result<Listener> {
    app.stream.listen(of.tenant).await.map_err(Error::internal)
}

/// Follows both tenants while they record sales alternately in this process. Returns the number of batches received.
async fn follow(
    run: &mut Run<'_>,
    [own, other]: [&Canary; 2],
    begin: impl AsyncFn(&Canary) -> Result<Listener>,
) -> Result<usize> {
    let listeners = [(own, begin(own).await?), (other, begin(other).await?)];
    for seller in [own, other, own] {
        seller.sell(run.app, &run.client).await?;
    }
    let mut count = 0;
    for (of, mut listener) in listeners {
        let head = run.app.db.head(of.tenant).await?.ok_or_else(|| Error::not_found("tenant"))?;
        loop {
            match tokio::time::timeout(HEARD_WAIT, listener.next()).await {
                Ok(Some(ListenerEvent::CommittedBatch(batch))) => {
                    count += 1;
                    if !is_of(run, of, &batch).await? {
                        run.report.findings.push(format!("who listens to {} hears of {batch:?}", of.word));
                    }
                    if batch.last == head.position {
                        break;
                    }
                }
                Ok(Some(ListenerEvent::Missed)) => {}
                Ok(None) | Err(_) => {
                    run.report.findings.push(format!("not tested: batches of {} are not heard", of.word));
                    break;
                }
            }
        }
    }
    Ok(count)
}

/// Whether the tenant's ledger contains the batch's entries; a batch without entries contains nothing tenant-specific.
async fn is_of(run: &Run<'_>, of: &Canary, batch: &CommittedBatch) -> Result<bool> {
    let Some(entries) = &batch.entries else { return Ok(true) };
    let tx = run.app.db.read(of.tenant).await?;
    Ok(read_entries(&tx, batch.first - 1, batch.last).await? == **entries)
}
