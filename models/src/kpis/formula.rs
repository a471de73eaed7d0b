//! A parsed formula.

use std::fmt;

use super::ast::{self, Expr, Spanned};
use super::error::{Fault, FormulaError};
use super::parser;

/// A syntactically valid formula. Its canonical form, as printed, parses to the same formula.
#[derive(Clone, Debug)]
pub struct Formula {
    text: String,
    root: Expr,
}

impl Formula {
    pub fn parse(text: &str) -> Result<Formula, FormulaError> {
        let root = parser::parse(text).map_err(|fault| fault.locate(text))?;
        Ok(Formula { text: text.to_owned(), root })
    }

    /// The text as written.
    pub fn text(&self) -> &str {
        &self.text
    }

    pub fn root(&self) -> &Expr {
        &self.root
    }

    /// The metrics and KPIs it references, in text order.
    pub(super) fn names(&self) -> Vec<Spanned<&str>> {
        ast::names(&self.root)
    }

    pub(super) fn locate(&self, fault: Fault) -> FormulaError {
        fault.locate(&self.text)
    }
}

impl fmt::Display for Formula {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.root.fmt(f)
    }
}
