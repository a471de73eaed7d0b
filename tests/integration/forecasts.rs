//! Forecasts of metrics: what they say, and when they refuse.

use chrono::{NaiveDate, TimeZone};
use chrono_tz::Europe::London;
use salespulse::clock::{DAY, Timestamp};
use salespulse::customer_value::refit_due;
use salespulse::ledger::event::{Event, Fact};
use serde_json::{Value, json};

use crate::histories::{FORECAST, PLACE, WEEK, forecast, numbers, refund, refusal, sale, shop, weeks, with_a_spike};
use crate::kpis::define;
use crate::ledger::{event, order};
use crate::socket::Socket;
use crate::support::{NOW, Server, TestApp, Urls};

#[tokio::test]
async fn the_last_season_comes_again_and_today_is_left_out() {
    let test = TestApp::start().await;
    let mut events = weeks(60);
    // Today is not over: half of it would look like a bad day.
    events.push(sale("today", 0, "7.00", PLACE));
    let acme = shop(&test, "acme", events).await;
    let naive = forecast(&acme.viewer(), "horizon: 8, model: NAIVE").await;
    let expected: Vec<f64> = WEEK.iter().cycle().take(8).map(|amount| *amount as f64).collect();
    assert_eq!(numbers(&naive["points"], "value"), expected);
    assert_eq!(naive["points"][0]["start"], "2026-06-15T00:00:00Z");
    assert_eq!(naive["points"][7]["end"], "2026-06-23T00:00:00Z");
    assert_eq!(
        (&naive["models"], &naive["season"], &naive["metric"]),
        (&json!(["NAIVE"]), &7.into(), &"TOTAL_REVENUE".into())
    );
    let training =
        json!({ "start": "2026-04-16T00:00:00Z", "end": "2026-06-15T00:00:00Z", "buckets": 60, "known": 60 });
    assert_eq!((&naive["training"], &naive["asOf"]["position"]), (&training, &"61".into()));
    // Each season repeats the last, so there is nothing to be relative to; nothing lay outside of an interval.
    assert_eq!((&naive["mase"], &naive["coverage"]), (&Value::Null, &json!(1.0)));
    for model in ["AUTO", "PROPHET", "MSTL", "ETS", "THETA"] {
        let points = forecast(&acme.viewer(), &format!("horizon: 7, model: {model}")).await["points"].take();
        for (found, expected) in numbers(&points, "value").iter().zip(&expected) {
            assert!((found - expected).abs() < 3.0, "{model}: {points}");
        }
    }
}

#[tokio::test]
async fn a_forecast_begins_where_the_period_ends_and_does_not_change_with_its_start() {
    let test = TestApp::start().await;
    let acme = shop(&test, "acme", weeks(120)).await;
    let ask = async |start: &str, end: &str| {
        let query = format!(
            "{{ salesMetrics(period: {{start: \"{start}\", end: \"{end}\"}}) {{ forecast(horizon: 3, model: ETS) {{ {FORECAST} }} }} }}"
        );
        acme.viewer().query(&query).await["salesMetrics"]["forecast"].take()
    };
    let then = ask("2026-05-01T00:00:00Z", "2026-06-01T00:00:00Z").await;
    assert_eq!(then["points"][0]["start"], "2026-06-01T00:00:00Z");
    assert_eq!(then["training"]["buckets"], 106);
    // The last day that is whole within it.
    assert_eq!(ask("2026-05-20T00:00:00Z", "2026-06-01T07:00:00Z").await, then);
    assert_eq!(ask("2026-05-20T00:00:00Z", "2030-01-01T00:00:00Z").await["points"][0]["start"], "2026-06-15T00:00:00Z");
    // Of the half of what came before; days of another zone begin at another time.
    let query = "{ salesMetrics(period: {preset: LAST_30_DAYS}, filters: {channels: [\"shop\"]}) { forecast(horizon: 3) { season } } }";
    assert_eq!(acme.viewer().error_code(query).await, "FORECAST_HISTORY_EMPTY");
    let zoned = forecast(&acme.viewer(), r#"horizon: 1, model: NAIVE, timezone: "America/New_York""#).await;
    assert_eq!(zoned["points"][0]["start"], "2026-06-15T04:00:00Z");
    let weekly = forecast(&acme.viewer(), "horizon: 2, model: NAIVE, grain: WEEK, weekStart: SUNDAY").await;
    assert_eq!((&weekly["points"][0]["start"], &weekly["season"]), (&"2026-06-14T00:00:00Z".into(), &1.into()));
}

#[tokio::test]
async fn a_rate_that_had_no_value_of_late_is_forecast_from_today_on() {
    let test = TestApp::start().await;
    // Nothing was sold for three days: revenue was zero, the average of orders was nothing.
    let sold = weeks(60).into_iter().filter(|event| !["d1", "d2", "d3"].contains(&event.event_id.as_str())).collect();
    let acme = shop(&test, "acme", sold).await;
    let rate = forecast(&acme.viewer(), "horizon: 7, metric: AVG_ORDER_VALUE, model: NAIVE").await;
    assert_eq!(rate["points"][0]["start"], "2026-06-15T00:00:00Z");
    assert_eq!(rate["points"][6]["end"], "2026-06-22T00:00:00Z");
    // Monday to Thursday are known of last week, the others of the week before.
    assert_eq!(numbers(&rate["points"], "value"), WEEK.map(|amount| amount as f64));
    let training =
        json!({ "start": "2026-04-16T00:00:00Z", "end": "2026-06-12T00:00:00Z", "buckets": 57, "known": 57 });
    assert_eq!(rate["training"], training);
    // 14 values, the horizon and the three days: 57 = 14 + 40 + 3.
    for (metric, horizon, season) in [("AVG_ORDER_VALUE", 40, 7), ("AVG_ORDER_VALUE", 41, 1), ("TOTAL_REVENUE", 41, 7)]
    {
        let found = forecast(&acme.viewer(), &format!("horizon: {horizon}, metric: {metric}, model: NAIVE")).await;
        assert_eq!(
            (found["season"].as_i64(), &found["points"][0]["start"]),
            (Some(season), &rate["points"][0]["start"])
        );
    }
    assert_eq!(refusal(&acme.viewer(), "horizon: 364, metric: AVG_ORDER_VALUE").await, "FORECAST_HISTORY_TOO_OLD");
}

#[tokio::test]
async fn a_kpi_is_forecast_as_the_metric_that_it_is() {
    let test = TestApp::start().await;
    let mut events: Vec<Event> =
        weeks(60).into_iter().filter(|event| !["d1", "d9", "d30"].contains(&event.event_id.as_str())).collect();
    events.extend((2..60).filter(|ago| ![9, 30].contains(ago)).map(|ago| refund(&format!("r{ago}"), ago, "5.00")));
    let acme = shop(&test, "acme", events).await;
    for (kpi, formula, metric, unit) in [
        // Nothing divided by nothing is a gap, as it is in the metric.
        ("basket", "grossRevenue / ordersCount", "AVG_ORDER_VALUE", "MONEY"),
        ("returned", "refunds / grossRevenue", "REFUND_RATE", "RATIO"),
        ("of_web", r#"unitsSold filter channel = "web""#, "UNITS_SOLD", "COUNT"),
    ] {
        assert_eq!(define(&acme, kpi, formula).await["unit"], unit);
        let of_metric = forecast(&acme.viewer(), &format!("horizon: 9, metric: {metric}, model: ETS")).await;
        let of_kpi = forecast(&acme.viewer(), &format!("horizon: 9, kpi: \"{kpi}\", model: ETS")).await;
        assert_eq!((&of_kpi["metric"], &of_kpi["kpi"], &of_kpi["unit"]), (&Value::Null, &kpi.into(), &unit.into()));
        assert_eq!(
            (&of_metric["metric"], &of_metric["kpi"], &of_metric["unit"]),
            (&metric.into(), &Value::Null, &unit.into())
        );
        for field in ["training", "season", "coverage"] {
            assert_eq!(of_kpi[field], of_metric[field], "{kpi}");
        }
        let pairs = numbers(&of_kpi["points"], "value").into_iter().zip(numbers(&of_metric["points"], "value"));
        pairs.for_each(|(kpi, metric)| assert!((kpi - metric).abs() <= 0.005, "{of_kpi} {of_metric}"));
    }
    let known = forecast(&acme.viewer(), "horizon: 9, kpi: \"basket\", model: NAIVE").await["training"]["known"].take();
    assert_eq!(known, 57, "three days without an order");
    define(&acme, "per_visit", "totalRevenue / visits").await;
    assert_eq!(refusal(&acme.viewer(), "horizon: 7, kpi: \"per_visit\"").await, "FORECAST_HISTORY_ALL_GAPS");
    assert_eq!(refusal(&acme.viewer(), "horizon: 7, kpi: \"basket\", metric: VISITS").await, "BAD_USER_INPUT");
    define(&acme, "huge", "totalRevenue * 0 + 700000000000000").await;
    assert_eq!(refusal(&acme.viewer(), "horizon: 7, kpi: \"huge\"").await, "FORECAST_VALUE_OUT_OF_RANGE");
    let asked = |argument: &str| {
        format!(
            "{{ salesMetrics(period: {{preset: LAST_30_DAYS}}) {{ forecast(horizon: 7, {argument}) {{ season }} }} }}"
        )
    };
    assert_eq!(acme.viewer().error_code(&asked("kpi: \"none\"")).await, "NOT_FOUND");
    let other = test.tenant("other").await;
    assert_eq!(other.viewer().error_code(&asked("kpi: \"basket\"")).await, "NOT_FOUND");
}

#[tokio::test]
async fn a_kpi_of_a_channel_that_opened_later_learns_from_that_day_on() {
    let test = TestApp::start().await;
    let mut events = weeks(60);
    events.extend(weeks(30).into_iter().map(|mut event| {
        event.event_id = format!("app-{}", event.event_id);
        if let Fact::OrderPlaced(order) = &mut event.fact {
            (order.order_id, order.channel) = (format!("app-{}", order.order_id), Some("app".into()));
        }
        event
    }));
    let acme = shop(&test, "acme", events).await;
    define(&acme, "of_app", r#"unitsSold filter channel = "app""#).await;
    let of_kpi = forecast(&acme.viewer(), "horizon: 7, kpi: \"of_app\", model: ETS").await;
    let filtered = "{ salesMetrics(period: {preset: LAST_30_DAYS}, filters: {channels: [\"app\"]}) {
        forecast(horizon: 7, metric: UNITS_SOLD, model: ETS) { training { known } points { value } } } }";
    let of_metric = acme.viewer().query(filtered).await["salesMetrics"]["forecast"].take();
    assert_eq!(of_kpi["training"]["known"], of_metric["training"]["known"], "{of_kpi} {of_metric}");
    assert_eq!(numbers(&of_kpi["points"], "value"), numbers(&of_metric["points"], "value"));
}

#[tokio::test]
async fn a_kpi_that_looks_back_knows_what_was_before_the_training() {
    let test = TestApp::start().await;
    let acme = shop(&test, "acme", weeks(80)).await;
    define(&acme, "growing", "growth(totalRevenue, 7d)").await;
    // 1461 hours begin in the afternoon of 15 April; a week before something was sold in one hour of each of 61 days since.
    let hours = forecast(&acme.viewer(), "horizon: 3, kpi: \"growing\", grain: HOUR, model: NAIVE").await;
    assert_eq!(
        (&hours["training"]["start"], &hours["training"]["known"]),
        (&"2026-04-16T10:00:00Z".into(), &61.into())
    );
    // Of 80 days the first seven have grown from nothing, which is no number.
    let days = forecast(&acme.viewer(), "horizon: 7, kpi: \"growing\", model: NAIVE").await;
    assert_eq!((&days["training"]["buckets"], &days["training"]["known"]), (&73.into(), &73.into()));
    assert_eq!(numbers(&days["points"], "value"), [0.0; 7]);
    // The formula is what is forecast, not its name, nor those of the KPIs that it names.
    define(&acme, "twice", "2 * growing").await;
    for (formula, expected) in [("totalRevenue - prev(totalRevenue)", -100.0), ("prev(totalRevenue)", 200.0)] {
        let update =
            format!("mutation {{ updateKpi(name: \"growing\", input: {{formula: \"{formula}\"}}) {{ unit }} }}");
        acme.admin().query(&update).await;
        // On Sunday 200, on Monday 100.
        for (kpi, times) in [("growing", 1.0), ("twice", 2.0)] {
            let naive = forecast(&acme.viewer(), &format!("horizon: 1, kpi: \"{kpi}\", model: NAIVE")).await;
            assert_eq!(numbers(&naive["points"], "value"), [times * expected], "{formula}");
            assert_eq!(naive["unit"], "MONEY");
        }
    }
}

#[tokio::test]
async fn an_hour_is_the_same_after_the_clock_was_changed() {
    let test = TestApp::start().await;
    let london = test.tenant_in("london", London, "GBP").await;
    // At ten by the clock of every day.
    let dates = NaiveDate::from_ymd_opt(2025, 8, 1).expect("a date").iter_days().take(255);
    let sales = dates.map(|date| {
        let ten = date.and_hms_opt(10, 0, 0).and_then(|ten| London.from_local_datetime(&ten).single()).expect("ten");
        event(&date.to_string(), &ten.to_rfc3339(), Fact::OrderPlaced(order(&date.to_string(), 1, "ann", "100.00")))
    });
    london.apply(sales.collect()).await;
    for (end, horizon, ten, last) in [
        // Over the change, whose day has 23 or 25 hours, and the day after.
        ("2025-10-25T23:00:00Z", 25, "2025-10-26T10:00:00Z", "2025-10-27T00:00:00Z"),
        ("2025-10-27T00:00:00Z", 24, "2025-10-27T10:00:00Z", "2025-10-28T00:00:00Z"),
        ("2026-03-29T00:00:00Z", 23, "2026-03-29T09:00:00Z", "2026-03-29T23:00:00Z"),
        ("2026-03-29T23:00:00Z", 24, "2026-03-30T09:00:00Z", "2026-03-30T23:00:00Z"),
    ] {
        let query = format!(
            "{{ salesMetrics(period: {{start: \"2025-08-01T00:00:00Z\", end: \"{end}\"}}) {{ forecast(horizon: {horizon}, grain: HOUR, model: NAIVE) {{ {FORECAST} }} }} }}"
        );
        let found = london.viewer().query(&query).await["salesMetrics"]["forecast"].take();
        assert_eq!((&found["training"]["end"], &found["season"]), (&end.into(), &168.into()));
        let points = found["points"].as_array().expect("points");
        assert_eq!((points.len(), &points[0]["start"]), (horizon, &end.into()));
        assert!(points.windows(2).all(|pair| pair[0]["end"] == pair[1]["start"]), "{found}");
        assert_eq!(points[horizon - 1]["end"], last);
        let busy: Vec<&Value> =
            points.iter().filter(|point| point["value"] != "0.00").map(|point| &point["start"]).collect();
        assert_eq!(busy, [ten], "by {end}");
    }
}

#[tokio::test]
async fn the_same_position_gives_the_same_forecast_in_any_process_at_any_time() {
    let test = TestApp::start().await;
    let acme = shop(&test, "acme", weeks(60)).await;
    define(&acme, "mixed", r#"prev(sum(net) filter channel = "web", 9d) + sum(net) filter category != "food" / 2"#)
        .await;
    let as_of = |position: i64, more: &str| {
        format!(
            "{{ salesMetrics(asOf: \"{position}\", period: {{start: \"2026-06-01T00:00:00Z\", end: \"2026-06-30T00:00:00Z\"}}) \
             {{ forecast(horizon: 14) {{ {FORECAST} }} kpi: forecast(horizon: 7, kpi: \"mixed\") {{ {FORECAST} }} {more} }} }}"
        )
    };
    let anomalies = "anomalies { threshold training { start end buckets known } }";
    let first = acme.viewer().query(&as_of(60, anomalies)).await;
    // A late sale, and some days later: the ledger at 60 knew nothing of them.
    test.clock.set(Timestamp(NOW.0 + 3 * DAY));
    acme.apply(vec![sale("late", 2, "5000.00", PLACE)]).await;
    acme.fold().await;
    test.clock.set(Timestamp(NOW.0 + 5 * DAY));
    let again = acme.viewer().query(&as_of(60, anomalies)).await;
    // While 60 was the newest position three days more came to their end, in which nothing was sold.
    assert_eq!(again["salesMetrics"]["forecast"]["training"]["end"], "2026-06-18T00:00:00Z");
    test.clock.set(NOW);
    assert_eq!(acme.viewer().query(&as_of(60, anomalies)).await, first, "by the clock of then");
    test.clock.set(Timestamp(NOW.0 + 90 * DAY));
    assert_eq!(acme.viewer().query(&as_of(60, anomalies)).await, again);
    let urls = Urls { owner: test.owner_url().to_owned(), server: test.server_url().to_owned() };
    let elsewhere = TestApp::over(urls, None).await;
    elsewhere.clock.set(Timestamp(NOW.0 + 90 * DAY));
    assert_eq!(acme.viewer().within(&elsewhere).query(&as_of(60, anomalies)).await, again, "another process fits anew");
    let newest = acme.viewer().query(&as_of(61, "")).await;
    assert_ne!(newest["salesMetrics"]["forecast"]["points"], again["salesMetrics"]["forecast"]["points"]);
}

#[tokio::test]
async fn too_little_is_refused_with_a_reason_and_leaves_the_rest() {
    let test = TestApp::start().await;
    let empty = test.tenant("empty").await;
    assert_eq!(refusal(&empty.viewer(), "horizon: 7").await, "FORECAST_HISTORY_EMPTY");
    let one = shop(&test, "one", weeks(1)).await;
    assert_eq!(refusal(&one.viewer(), "horizon: 7").await, "FORECAST_HISTORY_TOO_SHORT");
    // Without a season 10 values and the horizon do.
    let short = shop(&test, "short", weeks(17)).await;
    assert_eq!(forecast(&short.viewer(), "horizon: 7").await["season"], 1);
    assert_eq!(refusal(&short.viewer(), "horizon: 8").await, "FORECAST_HISTORY_TOO_SHORT");
    // Nobody counted visits.
    assert_eq!(refusal(&short.viewer(), "horizon: 7, metric: CONVERSION_RATE").await, "FORECAST_HISTORY_ALL_GAPS");
    for bad in ["horizon: 0", "horizon: -1", "horizon: 367", "horizon: 7, level: 1.5"] {
        assert_eq!(refusal(&short.viewer(), bad).await, "BAD_USER_INPUT", "{bad}");
    }
    let anomalies = |arguments: &str| {
        format!("{{ salesMetrics(period: {{preset: LAST_30_DAYS}}) {{ anomalies{arguments} {{ threshold }} }} }}")
    };
    assert_eq!(one.viewer().error_code(&anomalies("")).await, "ANOMALY_HISTORY_TOO_SHORT");
    for bad in ["(metrics: [])", "(metrics: [VISITS, VISITS])"] {
        assert_eq!(short.viewer().error(&anomalies(bad)).await, ("BAD_USER_INPUT".into(), Some("metrics".into())));
    }
    let old = shop(&test, "old", vec![sale("old", 800, "5.00", PLACE)]).await;
    assert_eq!(refusal(&old.viewer(), "horizon: 200, grain: YEAR").await, "BAD_USER_INPUT", "there is no year 2225");
    let hours = "{ salesMetrics(period: {start: \"2024-06-15T00:00:00Z\", end: \"2026-06-15T00:00:00Z\"}) { ordersCount \
                 anomalies(grain: HOUR) { threshold } } }";
    let response = short.viewer().run(hours, Value::Null).await;
    assert!(response.errors[0].message.contains("more than 10000 buckets"), "{:?}", response.errors);
    let data = response.data.into_json().expect("json");
    assert_eq!(data["salesMetrics"], json!({ "ordersCount": 17, "anomalies": null }));
}

#[tokio::test]
async fn what_a_horizon_may_be_is_told() {
    let test = TestApp::start().await;
    let acme = shop(&test, "acme", weeks(60)).await;
    for horizon in [-1, 0, 367] {
        let query = format!(
            "{{ salesMetrics(period: {{preset: LAST_30_DAYS}}) {{ forecast(horizon: {horizon}) {{ season }} }} }}"
        );
        let response = acme.viewer().run(&query, Value::Null).await;
        assert_eq!(response.errors[0].message, "the horizon must be 1 to 366 buckets");
    }
}

#[tokio::test]
async fn a_subscription_forecasts_anew_when_a_bucket_is_over_and_not_with_each_sale() {
    let test = TestApp::start().await;
    let acme = shop(&test, "acme", with_a_spike(3)).await;
    // So that the server has no model of customers to fit, whose statements would be counted.
    refit_due(&test.app).await.expect("fitted");
    let server = Server::start(&test).await;
    let mut socket = Socket::open(&server, &acme.viewer().token()).await;
    let watch =
        "subscription ($tenant: ID!) { metricsUpdated(tenantId: $tenant, period: {preset: LAST_7_DAYS}) { ordersCount
        asOf { position } forecast(horizon: 1, model: NAIVE) { asOf { position } points { start value } }
        anomalies { asOf { position } groups { anomalies { contributions { share } } } } } }";
    socket.subscribe("1", watch, json!({ "tenant": acme.id().0 })).await;
    let first = socket.next("1").await["data"]["metricsUpdated"].take();
    assert_eq!(first["forecast"]["points"], json!([{ "start": "2026-06-15T00:00:00Z", "value": "158.00" }]));
    let before = test.app.db.statements();
    acme.apply(vec![sale("now", 0, "50.00", PLACE)]).await;
    let recorded = test.app.db.statements() - before;
    let second = socket.next("1").await["data"]["metricsUpdated"].take();
    assert_eq!((&second["asOf"]["position"], &second["forecast"]["asOf"]["position"]), (&"202".into(), &"201".into()));
    assert_eq!(second["forecast"]["points"], first["forecast"]["points"]);
    assert_eq!((test.app.db.statements() - before).statements, recorded.statements, "no statement for a push");
    server.stop().await;
}
