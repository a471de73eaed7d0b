//! `updateProduct`.

use async_graphql::{Context, ID, InputObject, MaybeUndefined, Object};

use super::graphql::Product;
use super::store::{self, LOGGED, ProductChange};
use crate::audit::{self, Entry};
use crate::auth::Permission;
use crate::error::{Error, Result};
use crate::graphql::context::Requires;
use crate::graphql::text;
use crate::ledger::check::{ID_CHARS_MAX, TEXT_CHARS_MAX};
use crate::ledger::node_id::Numbered;

#[derive(Default)]
pub struct ProductMutation;

#[Object]
impl ProductMutation {
    /// Changes the title, category or stock of a product; what `input` leaves out stays as it is, and null clears it. Needs SALES_EDIT.
    #[graphql(guard = "Requires(Permission::SalesEdit)")]
    async fn update_product(
        &self,
        ctx: &Context<'_>,
        #[graphql(desc = "The product and its new values.")] input: ProductInput,
    ) -> async_graphql::Result<Product> {
        let wanted = input.check()?;
        let sku = wanted.sku.clone();
        let change = audit::change(ctx).await?;
        let before = change.see(&LOGGED, sku.clone()).await?;
        let product = store::save(&change, wanted).await?;
        let after = change.see(&LOGGED, sku).await?;
        let id = Numbered::Product.id(product.product_no).0;
        change.commit_if_changed(Entry::of("product.update", id).before(before).after(after)).await?;
        Ok(product)
    }
}

/// The new values of a product. What is omitted stays as it is; null clears it.
#[derive(InputObject)]
struct ProductInput {
    /// The source's id of the product, often its SKU; a product is created if it is unknown.
    sku: ID,
    /// The product's title.
    title: MaybeUndefined<String>,
    /// Its category.
    category: MaybeUndefined<String>,
    /// Units in stock.
    inventory: MaybeUndefined<i32>,
}

impl ProductInput {
    /// Error: BAD_USER_INPUT.
    fn check(self) -> Result<ProductChange> {
        let sku = self.sku.0;
        // Same rule as for events, without trimming, so that both name the same product.
        if sku.is_empty() || sku.chars().count() > ID_CHARS_MAX || sku.chars().any(char::is_control) {
            let message = format!("must have 1 to {ID_CHARS_MAX} characters, none of them a control character");
            return Err(Error::bad_input("sku", message));
        }
        if self.inventory.value().is_some_and(|pieces| *pieces < 0) {
            return Err(Error::bad_input("inventory", "must not be negative"));
        }
        let text = |argument, value: MaybeUndefined<String>| {
            value.map_value(|v| text::name(argument, &v, TEXT_CHARS_MAX)).transpose()
        };
        Ok(ProductChange {
            sku,
            title: text("title", self.title)?,
            category: text("category", self.category)?,
            inventory: self.inventory.map_value(i64::from),
        })
    }
}
