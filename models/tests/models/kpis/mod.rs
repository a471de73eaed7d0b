mod defined;
mod docs;
mod errors;
mod evaluation;
mod hostile;
mod naive;
mod roundtrip;
