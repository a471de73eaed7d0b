//! Answers questions of `bench/compare_python.py`: a JSON document on each line of the input, and one on each of the output,
//! with the CPU time of the thread that the models took, in milliseconds.

use std::io::{BufRead, Write};

use models::anomalies::IsolationForest;
use models::forecasts::{Model, Request, Series, forecast};
use models::value::{Kind, Likelihood, Purchases, SpendLikelihood};
use serde_json::{Value, json};

type Failure = Box<dyn std::error::Error>;

fn main() -> Result<(), Failure> {
    let mut out = std::io::stdout().lock();
    for line in std::io::stdin().lock().lines() {
        let question: Value = serde_json::from_str(&line?)?;
        let answer = match question["task"].as_str() {
            Some("forecast") => forecast_of(&question)?,
            Some("forest") => forest_of(&question)?,
            Some("value") => value_of(&question)?,
            Some("spend") => spend_of(&question)?,
            _ => return Err("no such task".into()),
        };
        writeln!(out, "{answer}")?;
        out.flush()?;
    }
    Ok(())
}

/// What a work gives, and the milliseconds that it took.
fn timed<T>(work: impl FnOnce() -> T) -> Result<(T, f64), Failure> {
    let began = cpu_ns()?;
    let result = work();
    Ok((result, (cpu_ns()? - began) as f64 / 1e6))
}

/// Nanoseconds that this thread has run. They are counted when it leaves its core, so it does.
fn cpu_ns() -> Result<u64, Failure> {
    std::thread::sleep(std::time::Duration::from_micros(1));
    let text = std::fs::read_to_string("/proc/thread-self/schedstat")?;
    Ok(text.split(' ').next().ok_or("no time")?.parse()?)
}

fn numbers(question: &Value, name: &str) -> Vec<Option<f64>> {
    question[name].as_array().into_iter().flatten().map(Value::as_f64).collect()
}

fn size(question: &Value, name: &str) -> usize {
    question[name].as_u64().and_then(|n| usize::try_from(n).ok()).unwrap_or_default()
}

fn forecast_of(question: &Value) -> Result<Value, Failure> {
    let starts = question["starts"].as_array().into_iter().flatten().filter_map(Value::as_i64).collect();
    let model = match question["model"].as_str() {
        Some("PROPHET") => Model::Prophet,
        Some("MSTL") => Model::Mstl,
        Some("ETS") => Model::Ets,
        Some("THETA") => Model::Theta,
        Some("NAIVE") => Model::Naive,
        _ => Model::Auto,
    };
    let series = Series { starts, values: numbers(question, "values"), season: size(question, "season") };
    let request = Request { horizon: size(question, "horizon"), model, level: 0.8, floor: None, events: Vec::new() };
    let (answer, ms) = timed(|| forecast(&series, &request))?;
    let answer = answer?;
    let of = |get: fn(&models::forecasts::Point) -> f64| answer.points.iter().map(get).collect::<Vec<f64>>();
    let origins = answer.quality.origins;
    let (value, lower, upper) = (of(|p| p.value), of(|p| p.lower), of(|p| p.upper));
    Ok(json!({ "value": value, "lower": lower, "upper": upper, "origins": origins, "ms": ms }))
}

fn forest_of(question: &Value) -> Result<Value, Failure> {
    let (points, dimension) = (numbers(question, "points"), size(question, "dimension"));
    let points: Vec<f64> = points.into_iter().flatten().collect();
    let seed = question["seed"].as_u64().unwrap_or_default();
    let (forest, fit_ms) = timed(|| IsolationForest::fit(&points, dimension, seed))?;
    let forest = forest?;
    let score = || points.chunks_exact(dimension).map(|point| forest.score(point)).collect::<Result<Vec<f64>, _>>();
    let (scores, score_ms) = timed(score)?;
    Ok(json!({ "scores": scores?, "fitMs": fit_ms, "scoreMs": score_ms }))
}

fn value_of(question: &Value) -> Result<Value, Failure> {
    let columns = ["repeats", "recency", "age"].map(|name| numbers(question, name));
    let at = |column: &[Option<f64>], i: usize| column[i].unwrap_or_default() as u32;
    let customer = |i| Purchases::new(at(&columns[0], i), at(&columns[1], i), at(&columns[2], i), 0, 0);
    let customers = (0..columns[0].len()).map(customer).collect::<Result<Vec<Purchases>, _>>()?;
    let kind = if question["kind"] == "BG" { Kind::BgNbd } else { Kind::MbgNbd };
    let fit = || {
        let likelihood = Likelihood::new(kind, &customers);
        likelihood.maximize().map(|model| (likelihood.of(&model), model))
    };
    let (found, ms) = timed(fit)?;
    let (log_likelihood, model) = found.ok_or("no maximum")?;
    Ok(json!({ "logLikelihood": log_likelihood, "parameters": model.parameters(), "ms": ms }))
}

/// Of customers with their repeats and the sum of these in cents.
fn spend_of(question: &Value) -> Result<Value, Failure> {
    let columns = ["repeats", "cents"].map(|name| numbers(question, name));
    let at = |column: &[Option<f64>], i: usize| column[i].unwrap_or_default();
    let customer = |i| {
        let (repeats, cents) = (at(&columns[0], i) as u32, at(&columns[1], i) as i64);
        // Spend does not depend on days: as many as there are repeats.
        Purchases::new(repeats, repeats, repeats, cents, cents)
    };
    let customers = (0..columns[0].len()).map(customer).collect::<Result<Vec<Purchases>, _>>()?;
    let fit = || {
        let likelihood = SpendLikelihood::new(&customers);
        likelihood.maximize().map(|model| (likelihood.of(&model), likelihood.customers(), model))
    };
    let (found, ms) = timed(fit)?;
    let (log_likelihood, count, model) = found.ok_or("no maximum")?;
    Ok(json!({ "logLikelihood": log_likelihood, "customers": count, "parameters": model.parameters(), "ms": ms }))
}
