//! What goes through streams: whoever listens to a tenant hears what the tenant's ledger holds, and nothing else.

use std::time::Duration;

use super::Run;
use super::canary::Canary;
use crate::error::{Error, Result};
use crate::ledger::tail::read_entries;
use crate::stream::{Batch, EventStream, Heard};

/// A batch that takes longer is lost.
const HEARD_WAIT: Duration = Duration::from_secs(5);

/// In one process, and where another one's batches come too, from that one.
pub async fn run(run: &mut Run<'_>, own: &Canary, other: &Canary) -> Result<()> {
    let (app, beside) = (run.app, run.beside);
    run.report.batches = listen(run, app.stream.as_ref(), own, other).await?;
    if beside.stream.is_shared() {
        run.report.shared_batches = Some(listen(run, beside.stream.as_ref(), own, other).await?);
    }
    Ok(())
}

/// Both tenants sell, in this process, one between two sales of the other. Gives how many batches were heard by `stream`.
async fn listen(run: &mut Run<'_>, stream: &dyn EventStream, own: &Canary, other: &Canary) -> Result<usize> {
    let listener = async |of: &Canary| stream.listen(of.tenant).await.map_err(Error::internal);
    let listeners = [(own, listener(own).await?), (other, listener(other).await?)];
    for seller in [own, other, own] {
        seller.sell(run.app, &run.client).await?;
    }
    let mut count = 0;
    for (of, mut listener) in listeners {
        let head = run.app.db.head(of.tenant).await?.ok_or_else(|| Error::not_found("tenant"))?;
        loop {
            match tokio::time::timeout(HEARD_WAIT, listener.next()).await {
                Ok(Some(Heard::Batch(batch))) => {
                    count += 1;
                    if !is_of(run, of, &batch).await? {
                        run.report.findings.push(format!("who listens to {} hears of {batch:?}", of.word));
                    }
                    if batch.last == head.position {
                        break;
                    }
                }
                Ok(Some(Heard::Missed)) => {}
                Ok(None) | Err(_) => {
                    run.report.findings.push(format!("nobody knows, as batches of {} are not heard", of.word));
                    break;
                }
            }
        }
    }
    Ok(count)
}

/// Whether the tenant's ledger holds the batch's entries; without entries there is nothing in it that is anybody's.
async fn is_of(run: &Run<'_>, of: &Canary, batch: &Batch) -> Result<bool> {
    let Some(entries) = &batch.entries else { return Ok(true) };
    let tx = run.app.db.read(of.tenant).await?;
    Ok(read_entries(&tx, batch.first - 1, batch.last).await? == **entries)
}
