mod forest;
mod hostile;
mod metrics_together;
mod nab;
