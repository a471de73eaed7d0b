//! `salespulse health`: checks whether the server with the same settings responds, for container health checks.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::time::Duration;

use super::failure::{Exit, Failure};
use crate::config::Config;

const ANSWER_WAIT: Duration = Duration::from_secs(3);

pub async fn run(config: &Config) -> Result<(), Failure> {
    let mut address = config.listen;
    if address.ip().is_unspecified() {
        address.set_ip(match address.ip() {
            IpAddr::V4(_) => Ipv4Addr::LOCALHOST.into(),
            IpAddr::V6(_) => Ipv6Addr::LOCALHOST.into(),
        });
    }
    let scheme = if config.tls.is_some() { "https" } else { "http" };
    // The certificate is issued for the name that clients use, not for this address.
    let client = reqwest::Client::builder().danger_accept_invalid_certs(true).no_proxy().timeout(ANSWER_WAIT);
    let client = client.build().map_err(Failure::failed)?;
    match client.get(format!("{scheme}://{address}/health")).send().await {
        Ok(answer) if answer.status().is_success() => Ok(()),
        Ok(answer) => Err(Failure::new(Exit::Failed, format!("{address} answers {}", answer.status()))),
        Err(_) => Err(Failure::new(Exit::Failed, format!("nobody answers at {address}"))),
    }
}
