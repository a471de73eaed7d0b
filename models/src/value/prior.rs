//! Priors for customers of whom too little is known to fit a model.
//!
//! The parameters are published ones, of 2,357 customers of a music retailer (CDNOW, first bought in early 1997). They
//! say how customers of an unknown shop may behave and nothing about this one; everything based on them is marked so.

use super::model::{Kind, PurchaseModel};
use super::spend::SpendModel;

const DAYS_PER_WEEK: f64 = 7.0;

/// BG/NBD: Fader, Hardie & Lee 2005. MBG/NBD: M. Platzer, BTYDplus, user guide 2016.
pub fn purchase_prior(kind: Kind) -> PurchaseModel {
    match kind {
        Kind::BgNbd => PurchaseModel { kind, r: 0.243, alpha_days: 4.414 * DAYS_PER_WEEK, a: 0.793, b: 2.426 },
        Kind::MbgNbd => PurchaseModel { kind, r: 0.525, alpha_days: 6.183 * DAYS_PER_WEEK, a: 0.891, b: 1.614 },
    }
}

/// The published shapes p = 6.25 and q = 3.74 (Fader, Hardie & Lee, RFM and CLV, Journal of Marketing Research 42(4),
/// 2005), with the scale set so that the mean over customers is the given one: amounts differ by shop and currency,
/// heterogeneity among customers differs less. `None` unless the mean is positive.
pub fn spend_prior(mean_spend_minor: f64) -> Option<SpendModel> {
    const P: f64 = 6.25;
    const Q: f64 = 3.74;
    SpendModel::new(P, Q, mean_spend_minor * (Q - 1.0) / P).ok()
}
