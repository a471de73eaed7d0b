//! Whether a statement reaches only rows of its tenant: the second wall where the database has no row-level security.
//!
//! Every table in it must be narrowed by its tenant column to a bound value, which must be the transaction's tenant, or to
//! a table that is. The table `tenants` is narrowed by its id.

use std::collections::BTreeSet;
use std::ops::ControlFlow;
use std::sync::Arc;

use moka::sync::Cache;
use sea_orm::{DbBackend, DbErr, Statement, Value};
use sqlparser::ast::{
    self, BinaryOperator, ConflictTarget, Expr, FromTable, Insert, Join, JoinConstraint, JoinOperator, ObjectName,
    OnConflictAction, OnInsert, Query, Select, SelectItem, SetExpr, TableFactor, TableObject, TableWithJoins,
    UpdateTableFromKind, Visit, Visitor,
};
use sqlparser::derive_dialect;
use sqlparser::dialect::{Dialect, PostgreSqlDialect, SQLiteDialect};
use sqlparser::parser::Parser;
use sqlparser::tokenizer::{Token, Tokenizer};

use super::TenantId;

/// Length of the texts that are remembered. The program has some hundreds, and more whose length depends on their filters.
const BYTES_MAX: u64 = 4 * 1024 * 1024;

/// Checks statements; each text once, as long as it is remembered.
#[derive(Clone)]
pub(super) struct Scoping {
    backend: DbBackend,
    /// By text: which of its values are the tenant.
    checked: Cache<String, Arc<[usize]>>,
}

impl Scoping {
    pub(super) fn new(backend: DbBackend) -> Self {
        let bytes = |text: &String, _: &Arc<[usize]>| u32::try_from(text.len()).unwrap_or(u32::MAX);
        Scoping { backend, checked: Cache::builder().weigher(bytes).max_capacity(BYTES_MAX).build() }
    }

    /// Error: the statement may reach other rows than `tenant`'s.
    pub(super) fn check(&self, statement: &Statement, tenant: TenantId) -> Result<(), DbErr> {
        let refused = |why: String| DbErr::Custom(format!("not narrowed to a tenant: {why}: {}", statement.sql));
        let places = self.places_of(&statement.sql).map_err(refused)?;
        let values = statement.values.as_ref().map_or(&[][..], |values| &values.0);
        let tenant = Value::from(tenant.0);
        match places.iter().find(|place| values.get(**place) != Some(&tenant)) {
            Some(place) => Err(refused(format!("value {} is not the tenant", place + 1))),
            None => Ok(()),
        }
    }

    fn places_of(&self, sql: &str) -> Result<Arc<[usize]>, String> {
        if let Some(places) = self.checked.get(sql) {
            return Ok(places);
        }
        let places: Arc<[usize]> = tenant_places(self.backend, sql)?.into();
        self.checked.insert(sql.to_owned(), Arc::clone(&places));
        Ok(places)
    }
}

// SQLite knows CROSS JOIN with a condition, other than the package's idea of it.
derive_dialect!(Sqlite, SQLiteDialect, preserve_type_id = true, overrides = { supports_cross_join_constraint = true });

/// Whether all tables of a statement are narrowed, to whatever values.
#[cfg(debug_assertions)]
pub(super) fn is_narrowed(backend: DbBackend, sql: &str) -> bool {
    tenant_places(backend, sql).is_ok()
}

/// Which values of a statement, counted from zero, its tables are narrowed to. Error: a table is not narrowed, or the
/// statement is of a kind that is not understood.
fn tenant_places(backend: DbBackend, sql: &str) -> Result<Vec<usize>, String> {
    let is_postgres = backend == DbBackend::Postgres;
    let dialect: &dyn Dialect = if is_postgres { &PostgreSqlDialect {} } else { &Sqlite::new() };
    // A lock that the package does not know.
    let sql = sql.replace("FOR NO KEY UPDATE", "FOR UPDATE");
    let mut tokens = Tokenizer::new(dialect, &sql).tokenize().map_err(|error| error.to_string())?;
    let unnumbered = tokens.iter_mut().filter(|token| matches!(token, Token::Placeholder(name) if name == "?"));
    for (i, token) in unnumbered.enumerate() {
        *token = Token::Placeholder(format!("${}", i + 1));
    }
    let statements = Parser::new(dialect).with_tokens(tokens).parse_statements().map_err(|error| error.to_string())?;
    let mut walk = Walk::default();
    match statements.visit(&mut walk) {
        ControlFlow::Break(why) => Err(*why),
        ControlFlow::Continue(()) if walk.found != walk.narrowed => {
            Err("a table stands where none is expected".to_owned())
        }
        ControlFlow::Continue(()) => Ok(walk.places.into_iter().collect()),
    }
}

/// A walk through a statement.
#[derive(Default)]
struct Walk {
    /// What the selections and changes around select from, innermost last: names, and the column of each table that holds
    /// its tenant.
    scopes: Vec<Vec<(String, Option<&'static str>)>>,
    /// Names of the common table expressions of the queries around.
    expressions: Vec<Vec<String>>,
    places: BTreeSet<usize>,
    /// Relations that were met, and those that were found to be narrowed or no tables.
    found: usize,
    narrowed: usize,
}

type Walked<T = ()> = ControlFlow<Box<String>, T>;

fn refuse<T>(why: impl Into<String>) -> Walked<T> {
    ControlFlow::Break(Box::new(why.into()))
}

/// What a selection selects from.
struct Named<'a> {
    name: &'a str,
    /// The column that holds the tenant; none if it is no table, but a query, a function or a common table expression.
    tenant_column: Option<&'static str>,
    is_narrowed: bool,
}

impl<'a> Named<'a> {
    fn table(name: &'a str, table: &str) -> Self {
        Named { name, tenant_column: Some(tenant_column(table)), is_narrowed: false }
    }

    fn other(name: &'a str) -> Self {
        Named { name, tenant_column: None, is_narrowed: true }
    }

    fn is_table(&self) -> bool {
        self.tenant_column.is_some()
    }

    /// Whether `column`, perhaps with the table's name, is the one that holds the tenant.
    fn is_tenant(&self, (qualifier, column): (Option<&str>, &str), is_only_table: bool) -> bool {
        self.tenant_column == Some(column) && qualifier.map_or(is_only_table, |name| name == self.name)
    }
}

/// A condition of a selection, and the table it holds for, unless for all.
type Condition<'a> = (&'a Expr, Option<&'a str>);

#[derive(Default)]
struct Source<'a> {
    tables: Vec<Named<'a>>,
    conditions: Vec<Condition<'a>>,
}

impl Walk {
    fn add_tables<'a>(&mut self, source: &mut Source<'a>, from: &'a [TableWithJoins]) -> Walked {
        for TableWithJoins { relation, joins } in from {
            self.add_table(source, relation)?;
            for Join { relation, join_operator, .. } in joins {
                let name = self.add_table(source, relation)?;
                let (constraint, of) = match join_operator {
                    JoinOperator::Join(on) | JoinOperator::Inner(on) | JoinOperator::CrossJoin(on) => (on, None),
                    JoinOperator::Left(on) | JoinOperator::LeftOuter(on) => (on, Some(name.unwrap_or_default())),
                    _ => return refuse("a kind of join that is not known"),
                };
                match constraint {
                    JoinConstraint::On(condition) => add_conditions(&mut source.conditions, condition, of),
                    JoinConstraint::None => {}
                    _ => return refuse("a join without ON"),
                }
            }
        }
        ControlFlow::Continue(())
    }

    /// Adds a table, and returns its name in the selection. Queries in its place are walked through by themselves.
    fn add_table<'a>(&mut self, source: &mut Source<'a>, factor: &'a TableFactor) -> Walked<Option<&'a str>> {
        match factor {
            TableFactor::Table { name, alias, args, .. } => {
                let table = name_of(name)?;
                let name = alias.as_ref().map_or(table, |alias| alias.name.value.as_str());
                if args.is_none() && self.expressions.iter().flatten().all(|expression| expression != table) {
                    source.tables.push(Named::table(name, table));
                    return ControlFlow::Continue(Some(name));
                }
                self.narrowed += 1;
                source.tables.push(Named::other(name));
            }
            TableFactor::Derived { alias, .. }
            | TableFactor::Function { alias, .. }
            | TableFactor::UNNEST { alias, .. } => {
                source.tables.extend(alias.as_ref().map(|alias| Named::other(&alias.name.value)));
            }
            _ => return refuse("a kind of table that is not known"),
        }
        ControlFlow::Continue(None)
    }

    /// Begins a selection: all its tables must be narrowed by its conditions.
    fn enter<'a>(&mut self, source: Source<'a>, selection: Option<&'a Expr>) -> Walked {
        let Source { mut tables, mut conditions } = source;
        if let Some(condition) = selection {
            add_conditions(&mut conditions, condition, None);
        }
        while self.narrow_one(&mut tables, &conditions)? {}
        if let Some(table) = tables.iter().find(|table| !table.is_narrowed) {
            return refuse(format!("table {}", table.name));
        }
        self.narrowed += tables.iter().filter(|table| table.is_table()).count();
        self.scopes.push(tables.iter().map(|table| (table.name.to_owned(), table.tenant_column)).collect());
        ControlFlow::Continue(())
    }

    /// Narrows one more table, if a condition does.
    fn narrow_one(&mut self, tables: &mut [Named<'_>], conditions: &[Condition<'_>]) -> Walked<bool> {
        let is_only = tables.iter().filter(|table| table.is_table()).count() == 1;
        for i in 0..tables.len() {
            if tables[i].is_narrowed {
                continue;
            }
            for (condition, of) in conditions {
                let Expr::BinaryOp { left, op: BinaryOperator::Eq, right } = condition else { continue };
                if of.is_some_and(|name| name != tables[i].name) {
                    continue;
                }
                for (side, other) in [(left, right), (right, left)] {
                    let is_tenant = column_of(side).is_some_and(|column| tables[i].is_tenant(column, is_only));
                    if is_tenant && self.is_of_tenant(other, tables)? {
                        tables[i].is_narrowed = true;
                        return ControlFlow::Continue(true);
                    }
                }
            }
        }
        ControlFlow::Continue(false)
    }

    /// Whether an expression is a bound value, or the tenant column of a table that is narrowed.
    fn is_of_tenant(&mut self, value: &Expr, tables: &[Named<'_>]) -> Walked<bool> {
        if let Some(place) = place_of(value) {
            self.places.insert(place);
            return ControlFlow::Continue(true);
        }
        let Some((Some(name), column)) = column_of(value) else { return ControlFlow::Continue(false) };
        ControlFlow::Continue(match tables.iter().find(|table| table.name == name) {
            Some(table) => table.is_narrowed && table.tenant_column == Some(column),
            None => {
                let around = self.scopes.iter().rev().flatten().find(|(table, _)| table == name);
                around.is_some_and(|(_, tenant_column)| *tenant_column == Some(column))
            }
        })
    }

    /// Rows that are inserted have the tenant, and replace only such.
    fn enter_insert(&mut self, insert: &Insert) -> Walked {
        let TableObject::TableName(table) = &insert.table else { return refuse("an insert into no table") };
        if insert.or.is_some() || insert.replace_into {
            return refuse("an insert that replaces");
        }
        let table = name_of(table)?;
        let is_tenant = |column: &ObjectName| name_of(column).map_continue(|name| name == tenant_column(table));
        let mut at = None;
        for (i, column) in insert.columns.iter().enumerate() {
            if is_tenant(column)? {
                at = Some(i);
            }
        }
        let (Some(at), Some(source)) = (at, &insert.source) else {
            return refuse(format!("table {table}, no tenant is inserted"));
        };
        self.is_inserted(&source.body, at, table)?;
        match &insert.on {
            None => {}
            Some(OnInsert::OnConflict(conflict)) => {
                if let OnConflictAction::DoUpdate(update) = &conflict.action {
                    let Some(ConflictTarget::Columns { columns, .. }) = &conflict.conflict_target else {
                        return refuse(format!("table {table}, a conflict without columns"));
                    };
                    if !columns.iter().any(|column| column.value == tenant_column(table)) {
                        return refuse(format!("table {table}, a conflict with other tenants"));
                    }
                    keeps_tenant(table, &update.assignments)?;
                }
            }
            Some(_) => return refuse("a way to resolve conflicts that is not known"),
        }
        self.narrowed += 1;
        self.scopes.push(vec![(table.to_owned(), Some(tenant_column(table)))]);
        ControlFlow::Continue(())
    }

    /// All rows of `rows` have the tenant as their value number `at`.
    fn is_inserted(&mut self, rows: &SetExpr, at: usize, table: &str) -> Walked {
        let inserted: Vec<Option<&Expr>> = match rows {
            SetExpr::Values(values) => values.rows.iter().map(|row| row.get(at)).collect(),
            SetExpr::Select(select) => {
                // All before it are single columns, too.
                let values: Option<Vec<&Expr>> = select.projection.iter().map(value_of).collect();
                vec![values.and_then(|values| values.get(at).copied())]
            }
            SetExpr::Query(query) => return self.is_inserted(&query.body, at, table),
            SetExpr::SetOperation { left, right, .. } => {
                self.is_inserted(left, at, table)?;
                return self.is_inserted(right, at, table);
            }
            _ => vec![None],
        };
        for value in inserted {
            match value.and_then(place_of) {
                Some(place) => self.places.insert(place),
                None => return refuse(format!("table {table}, something else is inserted as the tenant")),
            };
        }
        ControlFlow::Continue(())
    }
}

impl Visitor for Walk {
    type Break = Box<String>;

    fn pre_visit_query(&mut self, query: &Query) -> Walked {
        let with = query.with.as_ref();
        let names: Vec<String> =
            with.iter().flat_map(|with| &with.cte_tables).map(|table| table.alias.name.value.clone()).collect();
        // Without RECURSIVE, a name within its own query, or one before, is that of a table.
        if let Some(with) = with.filter(|with| !with.recursive) {
            for (i, table) in with.cte_tables.iter().enumerate() {
                ast::visit_relations(&table.query, |relation| match name_of(relation)? {
                    name if names[i..].iter().any(|later| later == name) => refuse(format!("two tables {name}")),
                    _ => ControlFlow::Continue(()),
                })?;
            }
        }
        self.expressions.push(names);
        ControlFlow::Continue(())
    }

    fn post_visit_query(&mut self, _: &Query) -> Walked {
        self.expressions.pop();
        ControlFlow::Continue(())
    }

    fn pre_visit_select(&mut self, select: &Select) -> Walked {
        let mut source = Source::default();
        self.add_tables(&mut source, &select.from)?;
        self.enter(source, select.selection.as_ref())
    }

    fn post_visit_select(&mut self, _: &Select) -> Walked {
        self.scopes.pop();
        ControlFlow::Continue(())
    }

    fn pre_visit_statement(&mut self, statement: &ast::Statement) -> Walked {
        let mut source = Source::default();
        match statement {
            // Queries are walked through by themselves, the others reach no rows.
            ast::Statement::Query(_)
            | ast::Statement::Savepoint { .. }
            | ast::Statement::ReleaseSavepoint { .. }
            | ast::Statement::Rollback { .. } => {
                self.scopes.push(Vec::new());
                ControlFlow::Continue(())
            }
            ast::Statement::Insert(insert) => self.enter_insert(insert),
            ast::Statement::Update(update) if update.or.is_some() => refuse("an update that replaces"),
            ast::Statement::Update(update) => {
                let table = match &update.table.relation {
                    TableFactor::Table { name, .. } => name_of(name)?,
                    _ => return refuse("an update of no table"),
                };
                keeps_tenant(table, &update.assignments)?;
                self.add_tables(&mut source, std::slice::from_ref(&update.table))?;
                if let Some(UpdateTableFromKind::AfterSet(from)) = &update.from {
                    self.add_tables(&mut source, from)?;
                }
                self.enter(source, update.selection.as_ref())
            }
            ast::Statement::Delete(delete) => {
                let FromTable::WithFromKeyword(from) = &delete.from else { return refuse("a deletion from no table") };
                self.add_tables(&mut source, from)?;
                self.add_tables(&mut source, delete.using.as_deref().unwrap_or_default())?;
                self.enter(source, delete.selection.as_ref())
            }
            _ => refuse("a kind of statement that is not known"),
        }
    }

    fn post_visit_statement(&mut self, _: &ast::Statement) -> Walked {
        self.scopes.pop();
        ControlFlow::Continue(())
    }

    fn pre_visit_relation(&mut self, _: &ObjectName) -> Walked {
        self.found += 1;
        ControlFlow::Continue(())
    }
}

/// The column that says whose a row is.
fn tenant_column(table: &str) -> &'static str {
    if table == "tenants" { "id" } else { "tenant_id" }
}

/// Rows that are changed stay with their tenant.
fn keeps_tenant(table: &str, assignments: &[ast::Assignment]) -> Walked {
    for assignment in assignments {
        let ast::AssignmentTarget::ColumnName(column) = &assignment.target else {
            return refuse("an assignment to several columns");
        };
        if name_of(column)?.eq_ignore_ascii_case(tenant_column(table)) {
            return refuse(format!("table {table}, the tenant is changed"));
        }
    }
    ControlFlow::Continue(())
}

fn name_of(name: &ObjectName) -> Walked<&str> {
    match name.0.as_slice() {
        [part] => match part.as_ident() {
            Some(ident) => ControlFlow::Continue(&ident.value),
            None => refuse("a name that is a function"),
        },
        _ => refuse(format!("a name with several parts, {name}")),
    }
}

/// Adds the parts that must all hold.
fn add_conditions<'a>(conditions: &mut Vec<Condition<'a>>, condition: &'a Expr, of: Option<&'a str>) {
    match condition {
        Expr::BinaryOp { left, op: BinaryOperator::And, right } => {
            add_conditions(conditions, left, of);
            add_conditions(conditions, right, of);
        }
        Expr::Nested(inner) => add_conditions(conditions, inner, of),
        other => conditions.push((other, of)),
    }
}

/// A column, and the name of its table if it has one.
fn column_of(expression: &Expr) -> Option<(Option<&str>, &str)> {
    match expression {
        Expr::Identifier(column) => Some((None, &column.value)),
        Expr::CompoundIdentifier(parts) => match parts.as_slice() {
            [table, column] => Some((Some(&table.value), &column.value)),
            _ => None,
        },
        _ => None,
    }
}

/// The value of a single column.
fn value_of(item: &SelectItem) -> Option<&Expr> {
    match item {
        SelectItem::UnnamedExpr(value) | SelectItem::ExprWithAlias { expr: value, .. } => Some(value),
        _ => None,
    }
}

/// Which bound value an expression is, counted from zero.
fn place_of(expression: &Expr) -> Option<usize> {
    match expression {
        Expr::Cast { expr, .. } => place_of(expr),
        Expr::Value(value) => match &value.value {
            ast::Value::Placeholder(name) => name.strip_prefix('$')?.parse::<usize>().ok()?.checked_sub(1),
            _ => None,
        },
        _ => None,
    }
}

#[cfg(test)]
mod tests;
