//! A formula that was read.

use std::fmt;

use super::ast::{self, Expr, Spanned};
use super::error::{Fault, FormulaError};
use super::parser;

/// A formula whose grammar is right. Printed, it is in its canonical form, which reads as the same formula.
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

    /// As it was written.
    pub fn text(&self) -> &str {
        &self.text
    }

    pub fn root(&self) -> &Expr {
        &self.root
    }

    /// The metrics and KPIs it names, in the order of the text.
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
