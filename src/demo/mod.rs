//! The demo: two tenants with real sales of a British wholesaler, shifted to the present, and new ones every second.
//!
//! The history is imported once, with dates shifted by whole days so that it ends within the last day; a later run
//! derives the shift from the first event. `demo/NOTICE` names the source of the data.

mod history;
mod replay;
mod tenants;

use tokio_util::sync::CancellationToken;

use crate::app::App;
use crate::error::Result;
use crate::import::{Files, ImportError, Mapping};

pub use tenants::{ABROAD, GIFTS, Tenants};

/// The extract, by the name the mappings use.
const FILE: (&str, &[u8]) =
    ("online_retail_ii_2009-12_2010-02.csv.gz", include_bytes!("../../demo/online_retail_ii_2009-12_2010-02.csv.gz"));
const GIFTS_MAPPING: &str = include_str!("../../demo/gifts.toml");
const ABROAD_MAPPING: &str = include_str!("../../demo/abroad.toml");

fn gifts_mapping() -> Result<Mapping, ImportError> {
    Mapping::parse(GIFTS_MAPPING, "demo/gifts.toml")
}

fn abroad_mapping() -> Result<Mapping, ImportError> {
    Mapping::parse(ABROAD_MAPPING, "demo/abroad.toml")
}

fn files() -> Files {
    Files { embedded: [(FILE.0.to_owned(), FILE.1)].into(), ..Files::default() }
}

/// Imports the history and then records new sales until `stop`.
pub async fn run(app: App, tenants: Tenants, stop: CancellationToken) {
    match history::import(&app, tenants, &stop).await {
        Ok(true) => replay::run(&app, tenants, &stop).await,
        Ok(false) => {}
        Err(message) => tracing::error!(%message, "the demo's history was not imported"),
    }
}
