//! Which modules know which: `docs/architecture.md` has the map.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

/// What puts the others together, and may know all of them.
const WIRING: [&str; 11] =
    ["app", "cli", "commands", "demo", "health", "isolation", "lib", "main", "monitor", "schema", "server"];

/// Those of them that others know too: the parts of a process, and the schema that the kernel executes.
const SHARED: [&str; 2] = ["app", "schema"];

/// The first knows the second though the second knows the first.
const EXCEPTIONS: [(&str, &str); 5] = [
    // What the database says becomes an error.
    ("error", "db"),
    // A batch carries entries.
    ("stream", "ledger"),
    // The contract has forecasts and anomalies in `SalesMetrics`.
    ("metrics", "predictions"),
    // The span of a request has where it comes from.
    ("telemetry", "graphql"),
    // What is erased or exported may wait in quarantine.
    ("privacy", "integrations"),
];

fn list_files(folder: &Path, files: &mut Vec<PathBuf>) {
    for entry in std::fs::read_dir(folder).expect("a folder") {
        let path = entry.expect("an entry").path();
        if path.is_dir() {
            list_files(&path, files);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            files.push(path);
        }
    }
}

/// The modules that a text names by `crate::`, apart from its tests and comments.
fn named(text: &str) -> BTreeSet<String> {
    let code = text.split("#[cfg(test)]\nmod tests").next().unwrap_or_default();
    let lines = code.lines().filter(|line| !line.trim_start().starts_with("//"));
    let names = lines.flat_map(|line| line.split("crate::").skip(1)).flat_map(|rest| match rest.strip_prefix('{') {
        Some(several) => several.split('}').next().unwrap_or_default().split(',').map(str::trim).collect::<Vec<_>>(),
        None => vec![rest],
    });
    let word = |name: &str| name.chars().take_while(|c| c.is_ascii_alphanumeric() || *c == '_').collect();
    names.map(word).collect()
}

/// Modules in the order in which they could be written, each after those that it knows; else those that are left.
fn without_cycles(mut knows: BTreeMap<String, BTreeSet<String>>) -> Result<(), BTreeMap<String, BTreeSet<String>>> {
    loop {
        let free: BTreeSet<String> =
            knows.iter().filter(|(_, others)| others.is_empty()).map(|(name, _)| name.clone()).collect();
        if free.is_empty() {
            return if knows.is_empty() { Ok(()) } else { Err(knows) };
        }
        knows.retain(|name, _| !free.contains(name));
        knows.values_mut().for_each(|others| others.retain(|other| !free.contains(other)));
    }
}

#[test]
fn no_module_knows_one_that_knows_it() {
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut files = Vec::new();
    list_files(&source, &mut files);
    let mut knows: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    for file in files {
        let place = file.strip_prefix(&source).expect("within");
        let first = place.components().next().expect("a name").as_os_str().to_string_lossy().into_owned();
        let module = first.trim_end_matches(".rs").to_owned();
        knows.entry(module).or_default().extend(named(&std::fs::read_to_string(&file).expect("a text")));
    }
    let all: BTreeSet<String> = knows.keys().cloned().collect();
    for (first, second) in EXCEPTIONS {
        assert!(knows[first].contains(second), "{first} does not know {second}: no exception is needed");
    }
    knows.retain(|module, _| !WIRING.contains(&module.as_str()));
    for (module, others) in &mut knows {
        let wiring = |other: &&String| WIRING.contains(&other.as_str()) && !SHARED.contains(&other.as_str());
        assert_eq!(others.iter().find(wiring), None, "{module} knows what puts modules together");
        let is_excepted = |other: &str| EXCEPTIONS.contains(&(module.as_str(), other));
        others.retain(|other| {
            all.contains(other) && other != module && !WIRING.contains(&other.as_str()) && !is_excepted(other)
        });
    }
    assert_eq!(without_cycles(knows), Ok(()));
}
