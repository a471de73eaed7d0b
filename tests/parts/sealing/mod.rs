mod envelope;
mod golden;
mod keyring;
mod stand_in;
mod vault;
