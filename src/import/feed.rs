//! A feed's mapping with resolved columns, and the conversion of rows to facts.

use std::cell::RefCell;

use super::condition::Condition;
use super::expression::Expression;
use super::lookup::Lookup;
use super::mapping::{FactKind, FeedSpec, Grouping, LineSpec};
use super::number::NumberFormat;
use super::parsed::ParsedRow;
use super::rows::Row;
use super::template::{Columns, Joined, Template};
use super::time::TimeFormats;
use crate::clock::Timestamp;
use crate::ledger::event::{Customer, Event, Fact, Line, OrderPlaced, RefundIssued, VisitsCounted};
use crate::money::Money;

/// Everything needed to read a row.
pub struct Feed {
    pub grouping: Option<Grouping>,
    prefix: String,
    fact: FactKind,
    when: Vec<Condition>,
    /// By table, the template of the key to join on; only for tables that are used.
    joins: Vec<Option<Template>>,
    id: Template,
    version: Option<Expression>,
    time: Template,
    formats: TimeFormats,
    /// Added to every timestamp.
    shift_micros: i64,
    organization: Option<Template>,
    currency: Option<Template>,
    channel: Option<Template>,
    region: Option<Template>,
    customer: Option<Template>,
    customer_name: Option<Template>,
    customer_email: Option<Template>,
    customer_phone: Option<Template>,
    customer_address: Option<Template>,
    order: Option<Template>,
    count: Option<Expression>,
    amount: Option<Expression>,
    discount: Option<Expression>,
    reversals: bool,
    round: Option<u32>,
    line: Option<LineFeed>,
}

struct LineFeed {
    product: Template,
    title: Option<Template>,
    category: Option<Template>,
    quantity: Option<Expression>,
    amount: Expression,
    discount: Option<Expression>,
    cost: Option<Expression>,
}

impl Feed {
    /// The version of a row that cannot be read; `None` where it may be any.
    pub fn unknown_version(&self) -> Option<i64> {
        self.version.is_none().then_some(1)
    }

    /// Error: the key of the mapping and what is wrong with it.
    pub fn new(
        mapping_name: &str,
        spec: &FeedSpec,
        own: &[String],
        lookups: &[Lookup],
        shift_micros: i64,
    ) -> Result<Feed, String> {
        let joins = lookups.iter().map(|lookup| Template::parse(&lookup.by, &Columns::of(own)));
        let (joins, unjoined): (Vec<_>, Vec<_>) = joins
            .map(|join| match join {
                Ok(join) => (Some(join), None),
                Err(why) => (None, Some(why)),
            })
            .unzip();
        let columns = Columns { own, lookups, unjoined: &unjoined, used: RefCell::default() };
        let text = |key: &str, spec: &str| Template::parse(spec, &columns).map_err(|what| format!("`{key}`: {what}"));
        let text_of = |key: &str, spec: &Option<String>| spec.as_ref().map(|spec| text(key, spec)).transpose();
        let numbers = NumberFormat { decimal_comma: spec.decimal_comma, currency_sign: spec.currency_sign.clone() };
        let number = |key: &str, text: &String| {
            Expression::parse(text, &columns, &numbers).map_err(|what| format!("`{key}`: {what}"))
        };
        let number_of = |key: &str, text: &Option<String>| text.as_ref().map(|text| number(key, text)).transpose();
        let line = |line: &LineSpec| {
            Ok::<_, String>(LineFeed {
                product: text("line.product", &line.product)?,
                title: text_of("line.title", &line.title)?,
                category: text_of("line.category", &line.category)?,
                quantity: number_of("line.quantity", &line.quantity)?,
                amount: number("line.amount", &line.amount)?,
                discount: number_of("line.discount", &line.discount)?,
                cost: number_of("line.cost", &line.cost)?,
            })
        };
        let mut feed = Feed {
            grouping: spec.group,
            prefix: format!("{mapping_name}/{}:", spec.name),
            fact: spec.fact,
            when: spec
                .when
                .iter()
                .map(|when| Condition::parse(when, &columns, &numbers))
                .collect::<Result<_, _>>()
                .map_err(|what| format!("`when`: {what}"))?,
            joins,
            id: text("id", &spec.id)?,
            version: number_of("version", &spec.version)?,
            time: text("time", &spec.time)?,
            formats: TimeFormats::parse(&spec.time_formats, &spec.timezone)?,
            shift_micros,
            organization: text_of("organization", &spec.organization)?,
            currency: text_of("currency", &spec.currency)?,
            channel: text_of("channel", &spec.channel)?,
            region: text_of("region", &spec.region)?,
            customer: text_of("customer", &spec.customer)?,
            customer_name: text_of("customer_name", &spec.customer_name)?,
            customer_email: text_of("customer_email", &spec.customer_email)?,
            customer_phone: text_of("customer_phone", &spec.customer_phone)?,
            customer_address: text_of("customer_address", &spec.customer_address)?,
            order: text_of("order", &spec.order)?,
            count: number_of("count", &spec.count)?,
            amount: number_of("amount", &spec.amount)?,
            discount: number_of("discount", &spec.discount)?,
            reversals: spec.reversals,
            round: spec.round,
            line: spec.line.as_ref().map(line).transpose()?,
        };
        let used = columns.used.borrow();
        let unused = feed.joins.iter_mut().enumerate().filter(|(table, _)| !used.contains(table));
        unused.for_each(|(_, join)| *join = None);
        Ok(feed)
    }

    /// For each table, the row that this row joins.
    pub fn join(&self, row: &Row, lookups: &[Lookup]) -> Vec<Option<usize>> {
        let alone = Joined { row, lookups: &[], found: &[] };
        let find = |(by, lookup): (&Option<Template>, &Lookup)| lookup.find(&by.as_ref()?.fill(&alone));
        self.joins.iter().zip(lookups).map(find).collect()
    }

    /// The tables without a match for a row that was joined with `found`.
    pub fn missed<'a>(&'a self, found: &'a [Option<usize>]) -> impl Iterator<Item = usize> + 'a {
        let pairs = self.joins.iter().zip(found).enumerate();
        pairs.filter(|(_, (join, row))| join.is_some() && row.is_none()).map(|(table, _)| table)
    }

    /// Whether an incomplete row is excluded by the columns it has.
    pub fn leaves_out(&self, joined: &Joined<'_>) -> bool {
        self.when.iter().any(|condition| condition.leaves_out(joined))
    }

    /// Whether the row belongs to this feed. Error: it cannot be determined.
    pub fn takes(&self, joined: &Joined<'_>) -> Result<bool, String> {
        for condition in &self.when {
            if !condition.holds(joined).map_err(|what| format!("`when`: {what}"))? {
                return Ok(false);
            }
        }
        Ok(true)
    }

    pub fn id(&self, joined: &Joined<'_>) -> String {
        self.id.fill(joined)
    }

    /// The apparent id of an incomplete row; empty where it has none.
    pub fn id_within(&self, joined: &Joined<'_>) -> String {
        if self.id.is_within(joined.row.len()) { self.id(joined) } else { String::new() }
    }

    /// Parses a row. Error: what is wrong with it.
    pub fn read(&self, joined: &Joined<'_>) -> Result<ParsedRow, String> {
        let id = self.id(joined);
        if id.is_empty() {
            return Err("`id` is empty".into());
        }
        let text = |template: &Option<Template>| template.as_ref().and_then(|t| t.fill_some(joined));
        let at = self.formats.read(&self.time.fill(joined)).map_err(|what| format!("`time`: {what}"))?;
        let customer = text(&self.customer).map(|id| Customer {
            id,
            name: text(&self.customer_name),
            email: text(&self.customer_email),
            phone: text(&self.customer_phone),
            address: text(&self.customer_address),
        });
        Ok(ParsedRow {
            id,
            at: Timestamp(at.0 + self.shift_micros),
            organization: text(&self.organization),
            currency: text(&self.currency),
            channel: text(&self.channel),
            region: text(&self.region),
            customer,
            order: text(&self.order),
            version: whole("version", self.version.as_ref(), joined)?,
            count: if self.fact == FactKind::Visits {
                whole("count", self.count.as_ref(), joined)?.unwrap_or(1)
            } else {
                0
            },
            amount: self.money("amount", self.amount.as_ref(), joined)?.map(|m| m.0.into()),
            discount: self.money("discount", self.discount.as_ref(), joined)?.map(|m| m.0.into()),
            lines: self.line.as_ref().map(|line| self.line(line, joined)).transpose()?.into_iter().collect(),
        })
    }

    fn line(&self, line: &LineFeed, joined: &Joined<'_>) -> Result<Line, String> {
        let amount = self.money("line.amount", Some(&line.amount), joined)?;
        Ok(Line {
            product_id: line.product.fill(joined),
            title: line.title.as_ref().and_then(|t| t.fill_some(joined)),
            category: line.category.as_ref().and_then(|t| t.fill_some(joined)),
            quantity: whole("line.quantity", line.quantity.as_ref(), joined)?.unwrap_or(1),
            amount: amount.ok_or("`line.amount` is empty")?,
            discount: self.money("line.discount", line.discount.as_ref(), joined)?.unwrap_or_default(),
            cost: self.money("line.cost", line.cost.as_ref(), joined)?,
        })
    }

    fn money(&self, key: &str, of: Option<&Expression>, joined: &Joined<'_>) -> Result<Option<Money>, String> {
        let Some(number) =
            of.map(|of| of.value(joined)).transpose().map_err(|what| format!("`{key}`: {what}"))?.flatten()
        else {
            return Ok(None);
        };
        let number = self.round.map_or(number, |decimals| number.round(decimals));
        number.to_money().map(Some).map_err(|what| format!("`{key}` {what}"))
    }

    /// The event of everything parsed for one fact.
    pub fn event(&self, parsed: ParsedRow) -> Result<Event, String> {
        let money = |sum: Option<i128>| match sum.map(Money::from_sum) {
            Some(None) => Err("a sum is beyond the largest amount".to_owned()),
            Some(sum) => Ok(sum),
            None => Ok(None),
        };
        let (amount, discount) = (money(parsed.amount)?, money(parsed.discount)?);
        let (currency, channel, region, lines) = (parsed.currency, parsed.channel, parsed.region, parsed.lines);
        let fact = match self.fact {
            FactKind::Order => Fact::OrderPlaced(OrderPlaced {
                order_id: parsed.id.clone(),
                version: parsed.version.unwrap_or(1),
                currency,
                amount,
                discount,
                channel,
                region,
                customer: parsed.customer,
                lines,
            }),
            FactKind::Refund => Fact::RefundIssued(self.positive(RefundIssued {
                refund_id: Some(parsed.id.clone()),
                order_id: parsed.order,
                currency,
                amount,
                channel,
                region,
                lines,
                is_reversal: false,
            })?),
            FactKind::Visits => Fact::VisitsCounted(VisitsCounted { count: parsed.count, channel, region }),
        };
        let event_id = match parsed.version {
            None => format!("{}{}", self.prefix, parsed.id),
            Some(version) => format!("{}{}#{version}", self.prefix, parsed.id),
        };
        Ok(Event { event_id, occurred_at: parsed.at, organization: parsed.organization, fact })
    }

    /// A refund whose amounts are all negative is a reversal, where the mapping allows them.
    fn positive(&self, mut refund: RefundIssued) -> Result<RefundIssued, String> {
        let amounts = refund.amount.iter().chain(refund.lines.iter().map(|line| &line.amount));
        let (mut some, mut all) = (false, true);
        for amount in amounts {
            some |= amount.is_negative();
            all &= amount.is_negative();
        }
        if some && !self.reversals {
            return Err(
                "the amount of a refund is negative (put a minus before the column, or set `reversals = true` where \
                        that takes a refund back)"
                    .into(),
            );
        }
        refund.is_reversal = some && all;
        if refund.is_reversal {
            for amount in refund.amount.iter_mut().chain(refund.lines.iter_mut().map(|line| &mut line.amount)) {
                *amount = amount.0.checked_neg().map(Money).ok_or("an amount is beyond the largest amount")?;
            }
            for line in &mut refund.lines {
                line.quantity = line.quantity.saturating_abs();
            }
        }
        Ok(refund)
    }
}

fn whole(key: &str, of: Option<&Expression>, joined: &Joined<'_>) -> Result<Option<i64>, String> {
    let number = of.map(|of| of.value(joined)).transpose().map_err(|what| format!("`{key}`: {what}"))?.flatten();
    number.map(|number| number.to_whole().map_err(|what| format!("`{key}` {what}"))).transpose()
}
