//! One event on its way into a lane: checked, hashed, without blank texts.

use sha2::{Digest, Sha256};

use super::check::check;
use super::event::{Event, Outcome, Refusal, RefusalCode};
use crate::audit::By;
use crate::clock::Timestamp;
use crate::sealing::{IndexKey, fingerprint};

/// An event with the hash of its content.
pub(super) struct Item {
    pub event: Event,
    /// Who records it.
    pub by: By,
    pub hash: ContentHash,
    /// Why it can never be accepted, regardless of the ledger's state.
    pub refusal: Option<Refusal>,
    /// Its outcome in the last attempt to commit.
    pub outcome: Option<Outcome>,
}

/// What recognizes the content of an event.
#[derive(Default)]
pub struct ContentHash {
    /// Of the event without blank texts, which mean the same as none.
    pub stored: Vec<u8>,
    /// Of the event as it was given, if it had blank texts: earlier versions stored this one.
    as_given: Option<Vec<u8>>,
}

impl ContentHash {
    /// Whether `recorded` is of the same content.
    pub fn is_of(&self, recorded: &[u8]) -> bool {
        self.stored == recorded || self.as_given.as_deref() == Some(recorded)
    }
}

impl Item {
    /// Personal data is hashed only under the tenant's key, so that nobody else can guess its content by trial. Once
    /// the keys are destroyed, personal data is refused.
    pub fn new(mut event: Event, by: By, now: Timestamp, key: Option<&IndexKey>) -> Self {
        let checked = check(&event, now);
        let hash = hash_of(&event, key).and_then(|given| {
            if event.remove_blanks() {
                Ok(ContentHash { stored: hash_of(&event, key)?, as_given: Some(given) })
            } else {
                Ok(ContentHash { stored: given, as_given: None })
            }
        });
        let (hash, refusal) = match hash {
            Ok(hash) => (hash, checked.err()),
            Err(refusal) => (ContentHash::default(), Some(refusal)),
        };
        Item { event, by, hash, refusal, outcome: None }
    }
}

fn hash_of(event: &Event, key: Option<&IndexKey>) -> Result<Vec<u8>, Refusal> {
    let json = serde_json::to_vec(event).map_err(|error| malformed(&error))?;
    match key {
        _ if !event.has_person() => Ok(Sha256::digest(json).to_vec()),
        Some(key) => Ok(fingerprint(key, "ledger_events.payload_hash", &json).to_vec()),
        None => Err(erased()),
    }
}

fn malformed(error: &serde_json::Error) -> Refusal {
    Refusal { code: RefusalCode::BadUserInput, reason: format!("the event cannot be written as JSON: {error}") }
}

fn erased() -> Refusal {
    let reason = "the tenant's personal data was erased; nothing of customers is taken".to_owned();
    Refusal { code: RefusalCode::Erased, reason }
}

#[cfg(test)]
mod tests {
    use super::super::event::{
        ActivityLogged, Customer, DealClosed, Fact, Line, OrderCancelled, OrderPlaced, ProductViewed, RefundIssued,
        VisitsCounted,
    };
    use super::*;
    use crate::money::Money;
    use crate::sealing::KeyBytes;

    const NOW: Timestamp = Timestamp(1_781_524_800_000_000);

    fn key() -> IndexKey {
        IndexKey::new(KeyBytes::new([7; 32]))
    }

    fn hash(event: Event) -> ContentHash {
        let item = Item::new(event, By::default(), NOW, Some(&key()));
        assert_eq!(item.refusal, None);
        item.hash
    }

    fn event(fact: Fact) -> Event {
        Event { event_id: "e1".into(), occurred_at: NOW, organization: None, fact }
    }

    fn some(text: &str) -> Option<String> {
        Some(text.to_owned())
    }

    fn order() -> OrderPlaced {
        let line = Line {
            product_id: "tea".into(),
            title: some("Tea"),
            category: some("drinks"),
            quantity: 2,
            amount: Money(195_000),
            discount: Money(5_000),
            cost: Some(Money(80_000)),
        };
        OrderPlaced {
            order_id: "o1".into(),
            version: 3,
            currency: some("EUR"),
            amount: Some(Money(199_000)),
            discount: Some(Money(5_000)),
            channel: some("web"),
            region: some("North"),
            customer: None,
            lines: vec![line],
        }
    }

    fn ann() -> Customer {
        Customer {
            id: "ann".into(),
            name: some("Ann"),
            email: some("ann@example.com"),
            phone: some("+44 1"),
            address: some("1 High Street"),
        }
    }

    /// An event of each kind with everything it may have, and one with as little as possible. Their hashes are in
    /// databases: what makes this test fail makes repeats conflicts.
    #[test]
    fn hashes_of_events_stay_the_same() {
        let refund = RefundIssued {
            refund_id: some("r1"),
            order_id: some("o1"),
            currency: some("EUR"),
            amount: Some(Money(195_000)),
            channel: some("web"),
            region: some("North"),
            lines: order().lines,
            is_reversal: true,
        };
        let deal = DealClosed {
            deal_id: "d1".into(),
            version: 1,
            owner: "ann@example.com".into(),
            won: true,
            currency: some("EUR"),
            amount: Money(9_000_000),
        };
        let facts = [
            (Fact::OrderPlaced(order()), "dfbfbd18c06c9c872dd01a2cdda6c551c49a7c889f3bc0a009929b2c2ffbfff8"),
            (
                Fact::OrderPlaced(OrderPlaced { customer: Some(ann()), ..order() }),
                "886acaa37093ede8c3e53427dc80a20e6aa7daac091fad35c5b85a0d0285e49f",
            ),
            (
                Fact::OrderPlaced(OrderPlaced { order_id: "o1".into(), amount: Some(Money(1)), ..Default::default() }),
                "57353a23a08a79791e8f6ddab59170de05535cf0693d30d95ac1c9fd3a0e72ee",
            ),
            (
                Fact::OrderCancelled(OrderCancelled { order_id: "o1".into(), version: 4 }),
                "ed26332972fdf68cf0a90876e48aad8af09e25cf8b2aac8c66e3b8118a386683",
            ),
            (Fact::RefundIssued(refund), "ed352c8969a506899cd552a040bdaa19ca8cf991e797d526fe6bdd7d7def1ad6"),
            (
                Fact::RefundIssued(RefundIssued { amount: Some(Money(1)), ..Default::default() }),
                "79088a26ddba4417e3ad5265be1c2e75c685ef0e49fc8b7ff95f57cd5b9cbac6",
            ),
            (
                Fact::VisitsCounted(VisitsCounted { count: 5, channel: some("web"), region: some("North") }),
                "df9696d301292fd598e53d85a7f705aa00bef6f8146c2e35880048918bdbad28",
            ),
            (
                Fact::ProductViewed(ProductViewed { product_id: "tea".into(), count: 5 }),
                "08ae22d8c07e04a08abe7f8b363b7e143ea785080b35a483321aa840aed13d2e",
            ),
            (Fact::DealClosed(deal), "d78ac47270d44fc052d6bfb9b2318b567ab51bd87b3882510a5b66cb1405aa65"),
            (
                Fact::ActivityLogged(ActivityLogged { owner: "ann".into(), activity: "call".into(), count: 5 }),
                "772d72cb7f787d510d16fd4184c878b2c4fa83ab3d97867d9af5719ace2831c5",
            ),
        ];
        for (fact, expected) in facts {
            let text = format!("{fact:?}");
            assert_eq!(hex::encode(hash(event(fact)).stored), expected, "{text}");
        }
        let of_organization = Event { organization: some("acme"), ..event(Fact::OrderPlaced(order())) };
        assert_eq!(
            hex::encode(hash(of_organization).stored),
            "d95dc8408cd74e571b2611246c9c5f91834dd166070ee8a8f80e6d44dd87cde8"
        );
    }

    #[test]
    fn blank_texts_are_as_none_and_those_of_an_earlier_version_are_recognized() {
        for is_person in [false, true] {
            let customer = is_person.then(ann);
            let none = OrderPlaced { region: None, customer: customer.clone(), ..order() };
            let blank = OrderPlaced { region: some(" "), customer, ..order() };
            let [none, blank, other] =
                [none, blank, OrderPlaced { version: 4, ..order() }].map(|order| event(Fact::OrderPlaced(order)));
            let given_once = hash_of(&blank, Some(&key())).expect("hashed");
            let [none, blank, other] = [none, blank, other].map(hash);
            assert!(blank.is_of(&none.stored) && none.is_of(&blank.stored));
            assert!(blank.is_of(&given_once) && !none.is_of(&given_once));
            assert!(!other.is_of(&none.stored) && !other.is_of(&given_once));
        }
    }
}
