//! Each model against what others computed or published, and against hostile input. The folder of the data is named by
//! `SALESPULSE_TEST_DATA`; without it the tests that need it say so and pass.

#![expect(clippy::disallowed_methods, reason = "the suite's own settings are in the environment")]

mod anomalies;
mod forecasts;
mod kpis;
mod value;
