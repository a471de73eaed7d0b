//! Relay-style keyset pagination: `first`/`after` or `last`/`before`, at most 100 items.

use std::borrow::Cow;

use async_graphql::{OutputType, SimpleObject};
use sea_orm::{QueryResult, Value};
use tokio::sync::OnceCell;

use crate::db::TenantTx;
use crate::error::{Error, Result};

pub const PAGE_DEFAULT: usize = 20;
const PAGE_MAX: usize = 100;

/// Information on a page of a connection.
#[derive(Clone, Debug, Default, SimpleObject)]
pub struct PageInfo {
    /// Whether there are more items after this page; with `first`, of those before the cursor `before`.
    pub has_next_page: bool,
    /// Whether there are more items before this page; with `last`, of those after the cursor `after`.
    pub has_previous_page: bool,
    /// The cursor of the first item of this page; null if it is empty.
    pub start_cursor: Option<String>,
    /// The cursor of the last item of this page; null if it is empty.
    pub end_cursor: Option<String>,
}

/// Validated page arguments.
#[derive(Clone, Debug)]
pub struct Page {
    pub limit: usize,
    /// From the end: rows are read in reverse order.
    pub backward: bool,
    pub after: Option<Cursor>,
    pub before: Option<Cursor>,
}

/// One of the columns (or expressions, never NULL) that a list is ordered by; the last of them is unique.
pub struct SortKey {
    pub column: &'static str,
    pub kind: KeyKind,
    pub is_descending: bool,
}

/// How a cursor's text is bound as a parameter.
pub enum KeyKind {
    Int,
    Text,
    Uuid,
}

impl SortKey {
    pub const fn ascending(column: &'static str, kind: KeyKind) -> Self {
        SortKey { column, kind, is_descending: false }
    }

    pub const fn descending(column: &'static str, kind: KeyKind) -> Self {
        SortKey { column, kind, is_descending: true }
    }
}

/// Clauses of a statement that reads a page.
pub struct Clauses {
    /// ` AND (…)`, or empty without cursors.
    pub filter: String,
    /// ` ORDER BY … LIMIT …`.
    pub order: String,
    pub values: Vec<Value>,
}

/// An order of a list.
pub struct SortOrder<'a> {
    /// Part of the cursors, so that one from another order or list is refused.
    pub name: &'static str,
    pub keys: &'a [SortKey],
}

/// The position of an item in a list: the name of its order and its sort key values, the last of them unique.
#[derive(Clone, Debug, PartialEq)]
pub struct Cursor {
    order: Cow<'static, str>,
    values: Vec<String>,
}

impl Cursor {
    pub fn new(order: &SortOrder<'_>, values: Vec<String>) -> Self {
        Cursor { order: Cow::Borrowed(order.name), values }
    }

    fn encode(&self) -> String {
        let parts: Vec<&str> = std::iter::once(&*self.order).chain(self.values.iter().map(String::as_str)).collect();
        hex::encode(parts.join("\u{1f}"))
    }

    fn decode(text: &str, argument: &'static str) -> Result<Cursor> {
        let text = hex::decode(text).ok().and_then(|bytes| String::from_utf8(bytes).ok());
        // PostgreSQL text cannot contain NUL.
        let text = text.filter(|text| !text.contains('\0')).ok_or_else(|| foreign(argument))?;
        let mut parts = text.split('\u{1f}').map(str::to_owned);
        Ok(Cursor { order: Cow::Owned(parts.next().unwrap_or_default()), values: parts.collect() })
    }

    /// The values to bind in `order`.
    fn bound(&self, order: &SortOrder<'_>, argument: &'static str) -> Result<Vec<Value>> {
        if self.order != order.name || self.values.len() != order.keys.len() {
            return Err(foreign(argument));
        }
        let value = |(text, key): (&String, &SortKey)| match key.kind {
            KeyKind::Int => text.parse::<i64>().map(Value::from).map_err(|_| foreign(argument)),
            KeyKind::Uuid => text.parse::<uuid::Uuid>().map(Value::from).map_err(|_| foreign(argument)),
            KeyKind::Text => Ok(Value::from(text.clone())),
        };
        self.values.iter().zip(order.keys).map(value).collect()
    }
}

fn foreign(argument: &'static str) -> Error {
    Error::bad_input(argument, "not a cursor of this list")
}

impl Page {
    /// Validates the four arguments: not both directions, 0 to 100 items, cursors issued by us.
    pub fn new(first: Option<i32>, after: Option<String>, last: Option<i32>, before: Option<String>) -> Result<Page> {
        if first.is_some() && last.is_some() {
            return Err(Error::bad_input("last", "give first or last, not both"));
        }
        let (argument, asked) = if last.is_some() { ("last", last) } else { ("first", first) };
        let limit = match asked {
            None => PAGE_DEFAULT,
            Some(n) => usize::try_from(n)
                .ok()
                .filter(|n| *n <= PAGE_MAX)
                .ok_or_else(|| Error::bad_input(argument, format!("must be from 0 to {PAGE_MAX}")))?,
        };
        Ok(Page {
            limit,
            backward: last.is_some(),
            after: after.map(|text| Cursor::decode(&text, "after")).transpose()?,
            before: before.map(|text| Cursor::decode(&text, "before")).transpose()?,
        })
    }

    /// The clauses that read this page, plus one row, of a list in `order`. Parameters are numbered from `first_param`.
    pub fn clauses(&self, order: &SortOrder<'_>, first_param: usize) -> Result<Clauses> {
        let keys = order.keys;
        let mut values = Vec::new();
        let mut filter = String::new();
        for (cursor, argument, is_after) in [(&self.after, "after", true), (&self.before, "before", false)] {
            let Some(cursor) = cursor else { continue };
            let bound = cursor.bound(order, argument)?;
            filter.push_str(&beyond(keys, is_after, first_param + values.len()));
            values.extend(bound);
        }
        let direction = |key: &SortKey| if key.is_descending == self.backward { "ASC" } else { "DESC" };
        let order: Vec<String> = keys.iter().map(|key| format!("{} {}", key.column, direction(key))).collect();
        let order = format!(" ORDER BY {} LIMIT {}", order.join(", "), self.limit + 1);
        Ok(Clauses { filter, order, values })
    }

    /// Builds a page from `rows`, read in the page's direction, one more than `limit` if there are more.
    pub fn connection<T: OutputType>(&self, mut rows: Vec<(Cursor, T)>) -> (Vec<(String, T)>, PageInfo) {
        let has_more = rows.len() > self.limit;
        rows.truncate(self.limit);
        if self.backward {
            rows.reverse();
        }
        let items: Vec<(String, T)> = rows.into_iter().map(|(cursor, item)| (cursor.encode(), item)).collect();
        let info = PageInfo {
            has_next_page: if self.backward { self.before.is_some() } else { has_more },
            has_previous_page: if self.backward { has_more } else { self.after.is_some() },
            start_cursor: items.first().map(|(cursor, _)| cursor.clone()),
            end_cursor: items.last().map(|(cursor, _)| cursor.clone()),
        };
        (items, info)
    }
}

/// ` AND …`: the rows beyond a cursor, whose values are bound from `first_param`, in a form that lets an index on the
/// keys be entered at that position.
fn beyond(keys: &[SortKey], is_after: bool, first_param: usize) -> String {
    let param = |index: usize| format!("${}", first_param + index);
    let sign = |key: &SortKey| if key.is_descending == is_after { '<' } else { '>' };
    let Some(first) = keys.first() else { return String::new() };
    if keys.iter().all(|key| key.is_descending == first.is_descending) {
        let columns: Vec<&str> = keys.iter().map(|key| key.column).collect();
        let params: Vec<String> = (0..keys.len()).map(param).collect();
        return format!(" AND ({}) {} ({})", columns.join(", "), sign(first), params.join(", "));
    }
    // (a, b) after (x, y) with mixed directions: a beyond x, or a = x and b beyond y.
    let beyond = |(index, key): (usize, &SortKey)| {
        let equal: String = (0..index).map(|i| format!("{} = {} AND ", keys[i].column, param(i))).collect();
        format!("({equal}{} {} {})", key.column, sign(key), param(index))
    };
    let any: Vec<String> = keys.iter().enumerate().map(beyond).collect();
    format!(" AND {} {}= {} AND ({})", first.column, sign(first), param(0), any.join(" OR "))
}

/// The rows of a list on all of its pages. Its pages and its count are both read from here, under the same conditions.
#[derive(Debug)]
pub struct Matching {
    /// What follows FROM, with a WHERE.
    pub from: String,
    /// Bound from `$2` on.
    pub values: Vec<Value>,
}

impl Matching {
    pub fn of(from: impl Into<String>) -> Self {
        Matching { from: from.into(), values: Vec::new() }
    }

    /// Binds a value; returns its parameter.
    pub fn bind(&mut self, value: impl Into<Value>) -> String {
        self.values.push(value.into());
        format!("${}", self.values.len() + 1)
    }

    /// Only those rows for which a condition holds, such as `o.placed_at >=`, which the value follows.
    pub fn and(&mut self, condition: &str, value: impl Into<Value>) {
        let parameter = self.bind(value);
        self.from.push_str(&format!(" AND {condition} {parameter}"));
    }

    /// Reads a page in that order. `item` gives an item with its sort key values.
    pub async fn page<T>(
        self,
        tx: &TenantTx,
        page: &Page,
        order: &SortOrder<'_>,
        columns: &str,
        item: impl Fn(&QueryResult) -> Result<(Vec<String>, T)>,
    ) -> Result<Listed<T>> {
        let Clauses { filter, order: by, values } = page.clauses(order, 2 + self.values.len())?;
        let sql = format!("SELECT {columns} FROM {}{filter}{by}", self.from);
        let rows = tx.query(&sql, self.values.iter().cloned().chain(values)).await?;
        let item = |row: &QueryResult| item(row).map(|(values, item)| (Cursor::new(order, values), item));
        Ok(Listed { rows: rows.iter().map(item).collect::<Result<_>>()?, matching: Some(self) })
    }
}

/// A page of a list as it was read, and the list that it is a page of.
pub struct Listed<T> {
    /// In the page's direction, one more than its limit if there are more.
    pub rows: Vec<(Cursor, T)>,
    /// `None` where nothing can match.
    pub matching: Option<Matching>,
}

impl<T> Listed<T> {
    pub fn nothing() -> Self {
        Listed { rows: Vec::new(), matching: None }
    }

    pub fn map<U>(self, node: impl Fn(T) -> U) -> Listed<U> {
        let Ok(mapped) = self.try_map(|item| Ok::<U, std::convert::Infallible>(node(item)));
        mapped
    }

    pub fn try_map<U, E>(self, node: impl Fn(T) -> Result<U, E>) -> Result<Listed<U>, E> {
        let rows = self.rows.into_iter().map(|(cursor, item)| Ok((cursor, node(item)?))).collect::<Result<_, E>>()?;
        Ok(Listed { rows, matching: self.matching })
    }
}

/// The number of items of a list, counted on first use.
pub struct Total {
    matching: Option<Matching>,
    count: OnceCell<i64>,
}

impl Total {
    pub fn of(matching: Option<Matching>) -> Self {
        Total { matching, count: OnceCell::new() }
    }

    /// Counts in the snapshot that the page was read from.
    pub async fn get(&self, tx: &TenantTx) -> Result<i64> {
        let Some(Matching { from, values }) = &self.matching else { return Ok(0) };
        let count = async || tx.count(&format!("SELECT COUNT(*) FROM {from}"), values.iter().cloned()).await;
        self.count.get_or_try_init(count).await.copied()
    }
}

/// Declares `<Node>Connection` and `<Node>Edge` for a node type, with the descriptions of the contract.
#[macro_export]
macro_rules! connection {
    ($connection:ident, $edge:ident, $node:ty, $items:literal) => {
        #[doc = concat!("A page of ", $items, ".")]
        pub struct $connection {
            items: Vec<(String, $node)>,
            page_info: $crate::graphql::page::PageInfo,
            total: $crate::graphql::page::Total,
        }

        impl $connection {
            pub fn new(page: &$crate::graphql::page::Page, listed: $crate::graphql::page::Listed<$node>) -> Self {
                let (items, page_info) = page.connection(listed.rows);
                Self { items, page_info, total: $crate::graphql::page::Total::of(listed.matching) }
            }
        }

        #[doc = concat!("A page of ", $items, ".")]
        #[async_graphql::Object]
        impl $connection {
            /// The page's items with their cursors.
            async fn edges(&self) -> Vec<$edge> {
                self.items
                    .iter()
                    .map(|(cursor, node)| $edge {
                        node: $crate::graphql::eager::Eager(node.clone()),
                        cursor: cursor.clone(),
                    })
                    .collect()
            }

            /// The page's items.
            async fn nodes(&self) -> $crate::graphql::eager::EagerList<&$node> {
                $crate::graphql::eager::EagerList(self.items.iter().map(|(_, node)| node).collect())
            }

            /// Information for fetching further pages.
            async fn page_info(&self) -> &$crate::graphql::page::PageInfo {
                &self.page_info
            }

            /// The number of items on all pages together: those that match the list's arguments, whatever `first`, `after`, `last` and `before` say. They are counted only if this is selected; a million of them takes from a quarter of a second to two seconds, by the filters.
            async fn total_count(
                &self,
                ctx: &async_graphql::Context<'_>,
            ) -> async_graphql::Result<$crate::graphql::scalars::Count> {
                let tx = $crate::graphql::context::read(ctx).await?;
                Ok($crate::graphql::scalars::Count(self.total.get(&tx).await?))
            }
        }

        #[doc = concat!("One item of a page of ", $items, ".")]
        #[derive(async_graphql::SimpleObject)]
        pub struct $edge {
            /// The item.
            node: $crate::graphql::eager::Eager<$node>,
            /// The item's position in the list; opaque.
            cursor: String,
        }
    };
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_page_begins_within_the_index_of_its_keys() {
        const KEYS: [SortKey; 2] = [SortKey::ascending("a", KeyKind::Int), SortKey::ascending("b", KeyKind::Int)];
        assert_eq!(beyond(&KEYS, true, 2), " AND (a, b) > ($2, $3)");
        assert_eq!(beyond(&KEYS, false, 4), " AND (a, b) < ($4, $5)");
        const MIXED: [SortKey; 2] = [SortKey::descending("a", KeyKind::Int), SortKey::ascending("b", KeyKind::Int)];
        assert_eq!(beyond(&MIXED, true, 2), " AND a <= $2 AND ((a < $2) OR (a = $2 AND b > $3))");
        assert_eq!(beyond(&MIXED, false, 2), " AND a >= $2 AND ((a > $2) OR (a = $2 AND b < $3))");
    }
}
