//! The state a batch is applied to, and the changes it makes.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::sync::Arc;

use strum::FromRepr;
use uuid::Uuid;

use super::entry::Entry;
use super::event::ActivityLogged;
use super::organization::Organization;
use super::state::{CustomerState, OrderState, RefundState};
use super::store::Head;
use crate::audit::By;
use crate::clock::Timestamp;
use crate::money::Money;

/// Keys of [`Names::dimensions`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, FromRepr)]
#[repr(i32)]
pub enum DimensionKind {
    Channel = 1,
    Region = 2,
    Category = 3,
}

/// Names and their numbers. A number is never reassigned to another name, so these may be cached between batches.
#[derive(Clone, Debug, Default)]
pub struct Names {
    pub dimensions: HashMap<(DimensionKind, String), i32>,
    pub products: HashMap<String, i64>,
}

/// Owner of revenue in a currency other than the default organization's.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, FromRepr)]
#[repr(i32)]
pub enum Holder {
    Customer = 1,
    Product = 2,
}

/// A deal as stored.
#[derive(Clone, Debug)]
pub struct DealState {
    pub version: i64,
    pub owner_id: Uuid,
    pub org_no: i32,
    pub is_won: bool,
    pub closed_at: Timestamp,
    pub currency: String,
    pub amount_paid: Money,
    pub amount: Money,
}

/// State loaded for a batch and updated by it.
#[derive(Default)]
pub struct Loaded {
    pub head: Head,
    pub organizations: Arc<Vec<Organization>>,
    pub names: Names,
    /// Position and payload hash of events already recorded.
    pub recorded: HashMap<String, (i64, Vec<u8>)>,
    pub orders: HashMap<String, OrderState>,
    pub refunds_by_order: HashMap<String, Vec<RefundState>>,
    pub refund_ids: HashSet<String>,
    pub customers: HashMap<String, CustomerState>,
    pub customer_ids: HashMap<i64, String>,
    pub deals: HashMap<String, DealState>,
    pub users: HashMap<String, Uuid>,
    /// The rate in force by source currency, target currency and UTC day.
    pub rates: HashMap<(String, String, i64), i64>,
}

/// An event that got a position.
pub struct Recorded {
    pub by: By,
    pub event_id: String,
    pub payload_hash: Vec<u8>,
    pub position: i64,
    pub kind: i32,
    pub is_superseded: bool,
    pub occurred_at: Timestamp,
}

/// Amounts of many events together may exceed the range of storage, which [`super::save`] refuses.
#[derive(Clone, Copy, Default)]
pub struct ProductChange {
    pub units: i64,
    pub revenue: i128,
    pub refunded: i128,
    pub cost: i128,
    pub revenue_with_cost: i128,
    pub views: i64,
}

/// Product attributes from the newest line that names it.
#[derive(Clone, Default)]
pub struct ProductNames {
    pub sku: String,
    pub title: Option<String>,
    pub category_no: i32,
}

#[derive(Clone, Copy, Default)]
pub struct PerformanceChange {
    pub deals_won: i64,
    pub deals_lost: i64,
    pub revenue: i128,
    pub activities: i64,
}

/// Changes a batch makes beyond those held in [`Loaded`].
#[derive(Default)]
pub struct Changes {
    pub recorded: Vec<Recorded>,
    /// Entries with the position of the event that caused them.
    pub entries: Vec<(i64, Entry)>,
    pub orders: BTreeSet<String>,
    /// Orders whose stored lines are replaced, and whether any are stored.
    pub lines: BTreeMap<String, bool>,
    pub refunds: Vec<RefundState>,
    pub customers: BTreeSet<String>,
    pub dimensions: Vec<(DimensionKind, i32, String)>,
    pub products: BTreeMap<i64, (ProductNames, ProductChange)>,
    /// Deltas to revenue in other currencies, by holder, its number and the currency.
    pub other_revenue: BTreeMap<(Holder, i64, String), i128>,
    pub deals: BTreeSet<String>,
    pub activities: Vec<(i64, Uuid, ActivityLogged, Timestamp)>,
    pub performance: BTreeMap<(Uuid, i32, i32), PerformanceChange>,
}
