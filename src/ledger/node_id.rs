//! Node IDs of entities numbered by the ledger. Clients cache by ID, some without the type, so IDs of different kinds
//! must differ: the number is prefixed with a letter for the kind.

use async_graphql::ID;
use sea_orm::Value;

use crate::error::{Error, Result};

/// The kinds of entities numbered by the ledger.
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

    /// The node ID of a number.
    pub fn id(self, number: i64) -> ID {
        format!("{}{number}", self.letter()).into()
    }

    /// The number of a node ID, if it is of this kind.
    pub fn find(self, id: &ID) -> Option<i64> {
        let digits = id.strip_prefix(self.letter())?;
        digits.parse().ok().filter(|number: &i64| *number > 0 && number.to_string() == digits)
    }

    /// Like [`Self::find`], for an argument. Error: NOT_FOUND.
    pub fn parse(self, id: &ID) -> Result<i64> {
        self.find(id).ok_or_else(|| Error::not_found(self.name()))
    }
}

/// An entity, by its node ID or by its source's identifier.
pub enum OneOf {
    /// `None` where the ID is not of this kind.
    Number(Option<i64>),
    Source(String),
}

impl OneOf {
    /// Error: BAD_USER_INPUT naming `argument`, unless exactly one is given.
    pub fn new(argument: &'static str, kind: Numbered, id: Option<ID>, source: Option<String>) -> Result<Self> {
        match (id, source) {
            (Some(id), None) => Ok(OneOf::Number(kind.find(&id))),
            (None, Some(source)) => Ok(OneOf::Source(source)),
            _ => Err(Error::bad_input(argument, "give either its id or the source's")),
        }
    }

    /// The column to match, of these two, and its value; `None` where nothing can match.
    pub fn condition(&self, number: &'static str, source: &'static str) -> Option<(&'static str, Value)> {
        match self {
            OneOf::Number(no) => no.map(|no| (number, no.into())),
            OneOf::Source(text) => (!text.contains('\0')).then(|| (source, text.clone().into())),
        }
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
