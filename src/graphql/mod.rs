//! The transport kernel: requests in, answers out. It knows no domain.

pub mod accept;
pub mod answers;
pub mod cohorts;
mod completion;
pub mod context;
pub mod cursor;
pub mod documents;
pub mod errors;
pub mod heads;
pub mod http;
pub mod limits;
pub mod loader;
pub mod node_id;
pub mod operation;
pub mod origin;
pub mod page;
pub mod params;
pub mod payload;
pub mod reads;
mod reply;
pub mod scalars;
pub mod scan;
mod shape;
pub mod socket;
mod streams;
pub mod text;
mod variables;
