//! Ids of what the ledger numbers. Clients keep things by their ids, some without the type, so that ids of different kinds
//! must differ: the number stands behind a letter for the kind.

use async_graphql::ID;

use crate::error::{Error, Result};

/// What the ledger numbers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Numbered {
    Customer,
    Order,
    Product,
}

impl Numbered {
    fn letter(self) -> char {
        match self {
            Numbered::Customer => 'c',
            Numbered::Order => 'o',
            Numbered::Product => 'p',
        }
    }

    fn name(self) -> &'static str {
        match self {
            Numbered::Customer => "customer",
            Numbered::Order => "order",
            Numbered::Product => "product",
        }
    }

    /// The id of one of these by its number.
    pub fn id(self, number: i64) -> ID {
        format!("{}{number}", self.letter()).into()
    }

    /// The number of one of these by its id, if it is one.
    pub fn find(self, id: &ID) -> Option<i64> {
        let digits = id.strip_prefix(self.letter())?;
        digits.parse().ok().filter(|number: &i64| *number > 0 && number.to_string() == digits)
    }

    /// The same of an argument. Error: NOT_FOUND.
    pub fn parse(self, id: &ID) -> Result<i64> {
        self.find(id).ok_or_else(|| Error::not_found(self.name()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_are_of_one_kind_and_written_in_one_way() {
        assert_eq!(Numbered::Customer.find(&Numbered::Customer.id(42)), Some(42));
        assert_eq!(Numbered::Order.find(&Numbered::Customer.id(42)), None);
        for id in ["", "c", "42", "c0", "c-1", "c+1", "c042", "c1 ", "C1", "c9223372036854775808"] {
            assert_eq!(Numbered::Customer.find(&id.into()), None, "{id}");
        }
    }
}
