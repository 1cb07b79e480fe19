//! Metadata of dynamic clients.

use futures::executor::block_on;
use serde::Deserialize;
use serde_json::{Map, Value, json};
use tower_oauth_client_validation::{
    Client, ClientOrigin, DynamicClientError, DynamicClientRules, MemoryRegistry, RegistryStore,
};

use crate::reference::redirect_uri::is_registrable_by_strangers;
use crate::vectors::{Case, cases, report};

/// The schemes without a period that are allowed by default.
pub(crate) const SCHEMES: [&str; 7] = ["claude", "cursor", "raycast", "vscode", "vscode-insiders", "warp", "windsurf"];

/// Metadata, and the member that is refused.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Vector {
    source: String,
    metadata: Map<String, Value>,
    /// Methods of `DynamicClientRules`, and their arguments.
    #[serde(default)]
    rules: Map<String, Value>,
    /// `ok`, or the member with its index.
    expect: String,
    #[serde(default)]
    is_over_bound: bool,
}

fn rules(settings: &Map<String, Value>) -> DynamicClientRules {
    settings.iter().fold(DynamicClientRules::new(), |rules, (name, value)| {
        let number = || usize::try_from(value.as_u64().unwrap()).unwrap();
        match name.as_str() {
            "max_metadata_bytes" => rules.max_metadata_bytes(number()),
            "max_redirect_uris" => rules.max_redirect_uris(number()),
            "max_list_members" => rules.max_list_members(number()),
            "max_language_variants" => rules.max_language_variants(number()),
            "private_use_schemes" => {
                rules.private_use_schemes(value.as_array().unwrap().iter().map(|scheme| scheme.as_str().unwrap()))
            }
            _ => panic!("no setting {name}"),
        }
    })
}

fn judge(rules: &DynamicClientRules, metadata: &Value) -> Result<(), DynamicClientError> {
    rules.judge(ClientOrigin::Registered, metadata.as_object().unwrap())
}

/// The member that an error names, with its index.
fn place(judged: Result<(), DynamicClientError>) -> String {
    match judged {
        Ok(()) => "ok".to_owned(),
        Err(error) => error.to_string().split(": ").next().unwrap().to_owned(),
    }
}

#[test]
fn metadata_is_accepted_or_refused_as_each_vector_says() {
    let mut failures = Vec::new();
    for Case { place: at, vector } in cases::<Vector>("dynamic.json") {
        let judged = rules(&vector.rules).judge(ClientOrigin::Registered, &vector.metadata);
        if let Err(error) = &judged {
            let is_redirect_uri = vector.expect.starts_with("redirect_uris") && !vector.is_over_bound;
            if error.is_redirect_uri() != is_redirect_uri || !vector.expect.starts_with(error.member()) {
                failures.push(format!("{at}: {error:?}"));
            }
        }
        let found = place(judged);
        if found != vector.expect || vector.source.is_empty() {
            failures.push(format!("{at}: expected {}, got {found}", vector.expect));
        }
        let allowed = match vector.rules.get("private_use_schemes") {
            Some(schemes) => {
                schemes.as_array().unwrap().iter().map(|scheme| scheme.as_str().unwrap().to_lowercase()).collect()
            }
            None => SCHEMES.map(str::to_owned).to_vec(),
        };
        let allowed: Vec<&str> = allowed.iter().map(String::as_str).collect();
        if let Some([Value::String(uri)]) =
            vector.metadata.get("redirect_uris").and_then(Value::as_array).map(Vec::as_slice)
            && is_registrable_by_strangers(uri, &allowed) != (vector.expect == "ok")
        {
            failures.push(format!("{at}: the reference disagrees about {uri:?}"));
        }
    }
    report(&failures);
}

#[test]
fn the_default_bounds_are_those_of_the_documentation() {
    let rules = DynamicClientRules::new();
    let uris = |count: usize| (0..count).map(|i| format!("https://app.example/{i}")).collect::<Vec<_>>();
    assert_eq!(place(judge(&rules, &json!({ "redirect_uris": uris(32) }))), "ok");
    assert_eq!(place(judge(&rules, &json!({ "redirect_uris": uris(33) }))), "redirect_uris");
    assert_eq!(place(judge(&rules, &json!({ "contacts": vec!["a"; 32] }))), "ok");
    assert_eq!(place(judge(&rules, &json!({ "contacts": vec!["a"; 33] }))), "contacts");
    let names = |count: usize| (0..count).map(|i| (format!("client_name#x{i}"), json!("A"))).collect::<Map<_, _>>();
    assert_eq!(place(judge(&rules, &names(16).into())), "ok");
    assert_eq!(place(judge(&rules, &names(17).into())), "client_name");

    let named = |bytes: usize| json!({ "b": 1, "client_name": "x".repeat(bytes) });
    let overhead = named(0).to_string().len();
    assert_eq!(named(8192 - overhead).to_string().len(), 8192);
    assert_eq!(place(judge(&rules, &named(8192 - overhead))), "ok");
    assert_eq!(place(judge(&rules, &named(8193 - overhead))), "client_name");
    assert_eq!(place(judge(&rules.clone().max_metadata_bytes(9000), &named(8193 - overhead))), "ok");
    assert_eq!(format!("{rules:?}"), format!("{:?}", DynamicClientRules::default()));
}

#[test]
fn metadata_that_is_small_as_text_and_large_in_memory_is_refused() {
    let rules = DynamicClientRules::new();
    // Each object of a few bytes takes more than 600 in memory.
    let objects: Map<String, Value> = (0..400).map(|i| (format!("{i}"), json!({ "a": 0 }))).collect();
    let metadata = json!({ "own": objects });
    assert!(metadata.to_string().len() < 8192);
    assert_eq!(place(judge(&rules, &metadata)), "own");
    let lists = json!({ "own": vec![vec![vec![""; 32]; 32]; 2] });
    assert!(lists.to_string().len() < 8192);
    assert_eq!(place(judge(&rules, &lists)), "own");
    // An honest key set that fills the bound is accepted.
    let coordinate = "x".repeat(43);
    let key = json!({ "kty": "EC", "crv": "P-256", "kid": "a key", "use": "sig", "alg": "ES256", "x": coordinate, "y": coordinate });
    let keys = json!({ "jwks": { "keys": vec![key; 32] } });
    assert!(keys.to_string().len() > 5_000);
    assert_eq!(place(judge(&rules, &keys)), "ok");
}

#[test]
fn judging_takes_linear_time_in_hostile_metadata() {
    // 64 KiB, the largest request: refused by its size before anything is compared pairwise.
    let tags: Map<String, Value> = (0..6_000).map(|i| (format!("a{i}#x"), json!(0))).collect();
    assert!(judge(&DynamicClientRules::new().max_metadata_bytes(1 << 20), &tags.into()).is_ok());
}

#[test]
fn a_check_sees_origin_and_metadata_and_runs_last() {
    let rules = DynamicClientRules::new().check(|origin, metadata| match origin {
        ClientOrigin::MetadataDocument if metadata.get("client_id") != Some(&json!("https://app.example/client")) => {
            Err(DynamicClientError::new("client_id", "is not the one"))
        }
        _ => Ok(()),
    });
    let metadata = json!({ "client_id": "https://other.example/client", "redirect_uris": ["https://app.example/cb"] });
    let judge = |origin, metadata: &Value| rules.judge(origin, metadata.as_object().unwrap());
    assert!(judge(ClientOrigin::Registered, &metadata).is_ok());
    let error = judge(ClientOrigin::MetadataDocument, &metadata).unwrap_err();
    assert_eq!((error.member(), error.reason(), error.is_redirect_uri()), ("client_id", "is not the one", false));
    let broken = json!({ "client_id": "https://other.example/client", "redirect_uris": ["smb://x"] });
    assert!(judge(ClientOrigin::MetadataDocument, &broken).unwrap_err().is_redirect_uri());
    assert!(DynamicClientError::new("redirect_uris", "no").is_redirect_uri());
}

#[test]
fn a_store_in_memory_marks_clients_that_nobody_configured() {
    let registry = MemoryRegistry::new();
    let insert = |id: &str, origin| {
        block_on(RegistryStore::insert(&registry, Client::builder(id).build().unwrap(), origin)).unwrap().is_dynamic()
    };
    assert!(!insert("configured", ClientOrigin::Configured));
    for origin in [ClientOrigin::Registered, ClientOrigin::Upstream, ClientOrigin::MetadataDocument] {
        let id = format!("{origin:?}");
        assert!(insert(&id, origin) && origin.is_dynamic());
        // Whatever replaces it came the same way.
        registry.replace(Client::builder(&*id).name("New").build().unwrap()).unwrap();
        let replaced = registry.get(&id).unwrap();
        assert!(replaced.is_dynamic() && replaced.name() == Some("New"));
    }
    registry.replace(Client::builder("configured").build().unwrap()).unwrap();
    assert!(!registry.get("configured").unwrap().is_dynamic());
}

#[test]
fn metadata_says_whether_a_client_is_dynamic() {
    let client = Client::builder("app").dynamic(true).build().unwrap();
    assert!(client.is_dynamic() && client.to_metadata()["dynamic"] == true);
    assert_eq!(Client::from_metadata(client.to_metadata()).unwrap(), client);
    let configured = client.to_builder().dynamic(false).build().unwrap();
    assert!(!configured.is_dynamic() && !configured.to_metadata().contains_key("dynamic"));
    let error = Client::from_metadata(json!({ "client_id": "app", "dynamic": "yes" })).unwrap_err();
    assert_eq!(error.to_string(), r#"client "app": dynamic: must be true or false"#);
}

#[test]
fn the_memory_of_a_client_grows_with_what_it_holds() {
    let plain = Client::builder("app").build().unwrap();
    let with = |value: Value| plain.to_builder().metadata("own", value).build().unwrap().memory_size();
    assert!(plain.memory_size() < 300);
    assert!(with(json!("x".repeat(1000))) > plain.memory_size() + 1000);
    assert!(with(json!(vec![0; 1000])) > plain.memory_size() + 30_000);
    assert!(with(json!(vec![json!({ "a": 0 }); 100])) > plain.memory_size() + 60_000);
    let uris = plain.to_builder().redirect_uri(format!("https://app.example/{}", "x".repeat(1000)));
    assert!(uris.build().unwrap().memory_size() > plain.memory_size() + 1000);
}
