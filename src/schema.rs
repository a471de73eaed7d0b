//! Merges the domains' parts into the one GraphQL schema.

use async_graphql::{MergedObject, MergedSubscription};

use crate::accounts::graphql::AccountQuery;
use crate::accounts::mutation::AccountMutation;
use crate::accounts::oidc::graphql::{IdentityMutation, IdentityQuery};
use crate::alerts::graphql::{AlertMutation, AlertQuery};
use crate::app::App;
use crate::audit::graphql::AuditQuery;
use crate::auth::Permission;
use crate::customer_value::graphql::CustomerValueQuery;
use crate::customers::graphql::CustomerQuery;
use crate::dashboards::graphql::DashboardQuery;
use crate::dashboards::mutation::DashboardMutation;
use crate::integrations::graphql::IntegrationQuery;
use crate::integrations::mutation::IntegrationMutation;
use crate::kpis::graphql::KpiQuery;
use crate::kpis::mutation::KpiMutation;
use crate::ledger::graphql::LedgerMutation;
use crate::ledger::rates::{RateMutation, RateQuery};
use crate::ledger::recordings::RecordingQuery;
use crate::live::graphql::LiveSubscription;
use crate::metrics::graphql::MetricsQuery;
use crate::orders::graphql::OrderQuery;
use crate::outbox::graphql::{OutboxMutation, OutboxQuery};
use crate::people::graphql::PeopleQuery;
use crate::people::mutation::PeopleMutation;
use crate::performance::graphql::PerformanceQuery;
use crate::predictions::events::graphql::{CalendarMutation, CalendarQuery};
use crate::privacy::graphql::{PrivacyMutation, PrivacyQuery};
use crate::products::graphql::ProductQuery;
use crate::products::mutation::ProductMutation;
use crate::sources::graphql::DataSourceQuery;
use crate::users::graphql::UserQuery;

/// The root of all queries. Every field needs a bearer token and sees only the data of that token's tenant.
#[derive(MergedObject, Default)]
pub struct Query(
    AccountQuery,
    IdentityQuery,
    PeopleQuery,
    MetricsQuery,
    AlertQuery,
    AuditQuery,
    CalendarQuery,
    CustomerQuery,
    CustomerValueQuery,
    DashboardQuery,
    DataSourceQuery,
    IntegrationQuery,
    KpiQuery,
    OrderQuery,
    OutboxQuery,
    PerformanceQuery,
    PrivacyQuery,
    ProductQuery,
    RateQuery,
    RecordingQuery,
    UserQuery,
);

/// The root of all mutations. Each one checks the permissions of the token (FORBIDDEN); changes are recorded in the audit log. The `update…` mutations change what is given: what is omitted stays as it is; null clears what may be empty, and is refused elsewhere (BAD_USER_INPUT with the `argument`). `updateAlert`, `setQuota` and `setCalendarEvent` replace the whole. What changes nothing leaves no trace. Signing in needs no token. Each refuses values that it cannot accept (BAD_USER_INPUT, usually with the `argument`).
#[derive(MergedObject, Default)]
pub struct Mutation(
    AccountMutation,
    IdentityMutation,
    LedgerMutation,
    AlertMutation,
    OutboxMutation,
    CalendarMutation,
    DashboardMutation,
    IntegrationMutation,
    KpiMutation,
    PeopleMutation,
    PrivacyMutation,
    ProductMutation,
    RateMutation,
);

/// The root of all subscriptions. They run over WebSocket (subprotocol graphql-transport-ws), server-sent events, or multipart responses.
#[derive(MergedSubscription, Default)]
pub struct Subscription(LiveSubscription);

/// Subscriptions whose answers are states: equal ones share them, and only the newest matters.
pub const STATES: [&str; 1] = ["metricsUpdated"];

/// Mutations that need no token, since they are how to obtain one.
pub const PUBLIC: [&str; 4] = ["login", "refresh", "requestPasswordReset", "setPassword"];

/// The permission that a root field needs; those that need none but a token are not named. It is checked before
/// arguments are ([`crate::graphql::roots`]), and once more by the guard of the resolver.
pub fn permission_of(field: &str) -> Option<Permission> {
    Some(match field {
        "alertCursor" | "alertHistory" | "alertTriggered" | "alerts" | "calendarEvents" | "createDashboard"
        | "customer" | "customerAnalytics" | "customerModel" | "customerRetention" | "customerSegments"
        | "customers" | "dashboard" | "dashboards" | "deleteDashboard" | "exchangeRates" | "kpi" | "kpis"
        | "metricsUpdated" | "order" | "orders" | "organizations" | "product" | "products" | "quotas"
        | "salesMetrics" | "salesPerformance" | "teams" | "updateDashboard" => Permission::SalesView,
        "deleteExchangeRate" | "recordEvents" | "setExchangeRates" | "updateProduct" => Permission::SalesEdit,
        "alertDeliveries"
        | "createAlert"
        | "createKpi"
        | "deleteAlert"
        | "deleteCalendarEvent"
        | "deleteKpi"
        | "retryAlertDelivery"
        | "setCalendarEvent"
        | "simulateAlert"
        | "updateAlert"
        | "updateKpi"
        | "validateKpi" => Permission::AnalyticsAdvanced,
        "auditLog" | "createOrganization" | "createTeam" | "deleteQuota" | "deleteTeam" | "inviteUser"
        | "recordings" | "setQuota" | "updateOrganization" | "updateTeam" | "updateUser" | "users" => {
            Permission::UsersManage
        }
        "apiKeys" | "createApiKey" | "createIntegration" | "dataSources" | "deleteIntegration"
        | "dismissQuarantined" | "integrations" | "quarantine" | "retryQuarantined" | "revokeApiKey"
        | "updateIntegration" => Permission::IntegrationsManage,
        "dataKeys" | "eraseCustomer" | "exportCustomer" | "rotateKeys" => Permission::PersonalManage,
        _ => return None,
    })
}

pub type Schema = async_graphql::Schema<Query, Mutation, Subscription>;

/// Builds the schema over the application. Operation size is limited by `graphql::shape`, which treats introspection
/// separately. Field suggestions are disabled: documents are validated before the caller is known.
pub fn build(app: App) -> Schema {
    let schema = async_graphql::Schema::build(Query::default(), Mutation::default(), Subscription::default());
    schema.data(app).disable_suggestions().finish()
}
