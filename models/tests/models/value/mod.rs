//! The models against published figures, against customers they were made for, and against hostile input.

mod cdnow;
mod data;
mod hostile;
mod recovery;
mod vectors;
