mod accuracy;
mod answers;
mod common;
mod hostile;
mod python;
