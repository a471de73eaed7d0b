//! The transport kernel: requests in, answers out. It knows no domain.

pub mod answers;
pub mod context;
pub mod errors;
pub mod heads;
pub mod http;
pub mod loader;
pub mod operation;
pub mod page;
pub mod reads;
pub mod scalars;
pub mod text;
