//! Every mutation, attempted by one tenant on the other's objects.

/// A mutation, in the template syntax of `canary::Canary::written`. `{Type}` stands for the id of an object of that
/// type.
pub struct Change {
    pub field: &'static str,
    pub document: &'static str,
}

const fn change(field: &'static str, document: &'static str) -> Change {
    Change { field, document }
}

/// All mutations of the schema. The last one ends the sessions of its caller.
pub const CHANGES: &[Change] = &[
    change(
        "recordEvents",
        r#"mutation { recordEvents(events: [{ eventId: "{run}-c", occurredAt: "{late}",
        refundIssued: { refundId: "{run}-c", orderId: "{run}-1", amount: [1] } }]) { results { outcome } } }"#,
    ),
    change("updateProduct", r#"mutation { updateProduct(input: { sku: "cup", inventory: 99 }) { title } }"#),
    change(
        "setExchangeRates",
        r#"mutation { setExchangeRates(rates: [{ from: "JPY", to: "USD", validFrom: "2020-01-01", rate: "0.02" }]) }"#,
    ),
    change(
        "deleteExchangeRate",
        r#"mutation { deleteExchangeRate(from: "SEK", to: "USD", validFrom: "2020-01-01") { rate } }"#,
    ),
    change(
        "createDashboard",
        r#"mutation { createDashboard(input: { name: "tried", filters: { organizationId: "{Organization}" } }) { id } }"#,
    ),
    change(
        "updateDashboard",
        r#"mutation { updateDashboard(id: "{Dashboard}", input: { name: "tried" }) { id name } }"#,
    ),
    change("deleteDashboard", r#"mutation { deleteDashboard(id: "{Dashboard}") }"#),
    change(
        "createAlert",
        r#"mutation { createAlert(input: { name: "tried", metric: VISITS, condition: NO_DATA, enabled: false,
        filters: { organizationId: "{Organization}" } }) { id } }"#,
    ),
    change(
        "updateAlert",
        r#"mutation { updateAlert(id: "{AlertRule}", input: { name: "tried", metric: VISITS, condition: NO_DATA }) { id name } }"#,
    ),
    change("deleteAlert", r#"mutation { deleteAlert(id: "{AlertRule}") }"#),
    change("retryAlertDelivery", r#"mutation { retryAlertDelivery(id: "{AlertDelivery}") { id } }"#),
    change(
        "createOrganization",
        r#"mutation { createOrganization(input: { slug: "second", name: "tried", timezone: "UTC", currency: "USD" }) { id } }"#,
    ),
    change(
        "updateOrganization",
        r#"mutation { updateOrganization(id: "{Organization}", input: { slug: "tried", name: "tried", timezone: "UTC", currency: "EUR" }) { id name } }"#,
    ),
    change("createTeam", r#"mutation { createTeam(input: { name: "tried", memberIds: ["{User}"] }) { id } }"#),
    change("updateTeam", r#"mutation { updateTeam(id: "{Team}", input: { name: "tried" }) { id name } }"#),
    change("deleteTeam", r#"mutation { deleteTeam(id: "{Team}") }"#),
    change("deleteQuota", r#"mutation { deleteQuota(id: "{Quota}") }"#),
    change(
        "setQuota",
        r#"mutation { setQuota(input: { userId: "{User}", start: "2020-01-01", end: "2040-01-01", amount: [5] }) { id } }"#,
    ),
    change(
        "setQuota",
        r#"mutation { setQuota(input: { teamId: "{Team}", start: "2020-01-01", end: "2040-01-01", amount: [5] }) { id } }"#,
    ),
    change(
        "login",
        r#"mutation { login(tenant: "{slug}", email: "{email}", password: "{password}") { accessToken } }"#,
    ),
    change("refresh", r#"mutation { refresh(refreshToken: "none") { accessToken } }"#),
    change("requestPasswordReset", r#"mutation { requestPasswordReset(tenant: "{slug}", email: "{email}") }"#),
    change(
        "setPassword",
        r#"mutation { setPassword(token: "none", password: "long enough for one") { accessToken } }"#,
    ),
    change(
        "inviteUser",
        r#"mutation { inviteUser(input: { email: "{email}", name: "tried", role: VIEWER }) { state } }"#,
    ),
    change(
        "updateUser",
        r#"mutation { updateUser(id: "{User}", input: { name: "tried", isActive: false }) { state } }"#,
    ),
    change(
        "createApiKey",
        r#"mutation { createApiKey(input: { name: "tried", permissions: [SALES_VIEW] }) { key { name } } }"#,
    ),
    change("revokeApiKey", r#"mutation { revokeApiKey(id: "{ApiKey}") { id } }"#),
    change(
        "createIntegration",
        r#"mutation { createIntegration(kind: SHOPIFY, secret: "{secret}",
        input: { name: "tried", organizationId: "{Organization}", enabled: false }) { id } }"#,
    ),
    change(
        "createIntegration",
        r#"mutation { createIntegration(kind: PIPEDRIVE, secret: "user:password-of-it",
        input: { name: "tried", owners: [{ externalId: "1", userId: "{User}" }], enabled: false }) { id } }"#,
    ),
    change(
        "updateIntegration",
        r#"mutation { updateIntegration(id: "{Integration}", input: { name: "tried", enabled: false }) { id name } }"#,
    ),
    change("deleteIntegration", r#"mutation { deleteIntegration(id: "{Integration}") }"#),
    change("retryQuarantined", r#"mutation { retryQuarantined(id: "{QuarantinedDelivery}") { outcome } }"#),
    change("dismissQuarantined", r#"mutation { dismissQuarantined(id: "{QuarantinedDelivery}") }"#),
    change("createKpi", r#"mutation { createKpi(name: "tried", input: { formula: "count(orders)" }) { name } }"#),
    change("updateKpi", r#"mutation { updateKpi(name: "canary", input: { formula: "count(visits)" }) { name } }"#),
    change("deleteKpi", r#"mutation { deleteKpi(name: "tried") }"#),
    change(
        "setCalendarEvent",
        r#"mutation { setCalendarEvent(input: { name: "tried", days: [{ first: "2020-01-01" }] }) { name } }"#,
    ),
    change("deleteCalendarEvent", r#"mutation { deleteCalendarEvent(id: "{CalendarEvent}") }"#),
    change("rotateKeys", "mutation { rotateKeys { rowsLeft } }"),
    change("exportCustomer", r#"mutation { exportCustomer(customerId: "c1") }"#),
    change("eraseCustomer", r#"mutation { eraseCustomer(customerId: "c2") { id } }"#),
    change("unlinkIdentity", r#"mutation { unlinkIdentity(issuer: "https://id.invalid", subject: "{run}") }"#),
    change(
        "changePassword",
        r#"mutation { changePassword(current: "not the one", new: "long enough for one") { accessToken } }"#,
    ),
    change("endSession", r#"mutation { endSession(id: "{Session}") }"#),
    change("logout", "mutation { logout }"),
    change("logoutEverywhere", "mutation { logoutEverywhere }"),
];
