//! Tenant-local sequence numbers, assigned when a batch first names an entity.

use std::collections::BTreeSet;

use super::batch::BatchApplier;
use super::changes::DimensionKind;
use super::entry::EntryLine;
use super::event::{Customer, Line};
use super::state::CustomerState;
use crate::personal::CustomerDetails;

impl BatchApplier {
    pub(super) fn customer_no(&mut self, customer: &Customer) -> i64 {
        let head = &mut self.loaded.head;
        let state = self.loaded.customers.entry(customer.id.clone()).or_insert_with(|| {
            head.last_customer_no += 1;
            CustomerState {
                customer_no: head.last_customer_no,
                external_id: customer.id.clone(),
                history: Some(BTreeSet::new()),
                ..CustomerState::default()
            }
        });
        if !state.is_erased {
            let Customer { name, email, phone, address, .. } = customer.clone();
            state.details.take_over(CustomerDetails { name, email, phone, address });
        }
        self.loaded.customer_ids.insert(state.customer_no, customer.id.clone());
        self.changes.customers.insert(customer.id.clone());
        state.customer_no
    }

    pub(super) fn dimension_no(&mut self, kind: DimensionKind, name: Option<&str>) -> i32 {
        let Some(name) = name else { return 0 };
        let key = (kind, name.to_owned());
        if let Some(no) = self.loaded.names.dimensions.get(&key) {
            return *no;
        }
        self.loaded.head.last_dimension_no += 1;
        let no = i32::try_from(self.loaded.head.last_dimension_no).unwrap_or(i32::MAX);
        self.loaded.names.dimensions.insert(key, no);
        self.changes.dimensions.push((kind, no, name.to_owned()));
        no
    }

    pub(super) fn product_no(&mut self, sku: &str, title: Option<&str>, category_no: i32) -> i64 {
        let product_no = match self.loaded.names.products.get(sku) {
            Some(no) => *no,
            None => {
                self.loaded.head.last_product_no += 1;
                let no = self.loaded.head.last_product_no;
                self.loaded.names.products.insert(sku.to_owned(), no);
                no
            }
        };
        let names = &mut self.changes.products.entry(product_no).or_default().0;
        sku.clone_into(&mut names.sku);
        if let Some(title) = title {
            names.title = Some(title.to_owned());
        }
        if category_no != 0 {
            names.category_no = category_no;
        }
        product_no
    }

    pub(super) fn entry_lines(&mut self, lines: &[Line]) -> Vec<EntryLine> {
        lines
            .iter()
            .map(|line| {
                let category_no = self.dimension_no(DimensionKind::Category, line.category.as_deref());
                EntryLine {
                    category_no,
                    product_no: self.product_no(&line.product_id, line.title.as_deref(), category_no),
                    units: line.quantity,
                    amount: line.amount,
                    discount: line.discount,
                    cost: line.cost,
                }
            })
            .collect()
    }
}
