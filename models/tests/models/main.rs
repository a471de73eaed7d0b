//! Each model against what others computed or published, and against hostile input. The folder of the data is named by
//! `SALESPULSE_TEST_DATA`; the tests that need it are ignored unless they are asked for, as `make` does where it is.

mod anomalies;
mod forecasts;
mod kpis;
mod value;

/// The folder of the data sets.
fn data() -> std::path::PathBuf {
    let folder = std::env::var_os("SALESPULSE_TEST_DATA").filter(|folder| !folder.is_empty());
    folder.expect("SALESPULSE_TEST_DATA names the folder of data").into()
}
