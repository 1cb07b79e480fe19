//! Both registration services: bounds, concurrent changes, and decisions of an operator.

use std::net::Ipv4Addr;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, SystemTime};

use bytes::Bytes;
use futures::future::join_all;
use http::Request;
use http_body_util::Full;
use serde_json::{Value, json};
use tokio::sync::Barrier;
use tower::Service as _;
use tower_oauth_client_validation::{
    BoxStore, Client, ClientOrigin, DynamicClientError, DynamicClientRules, EndpointFuture, GrantTypes, MemoryRegistry,
    RegistrationPolicy, RegistrationService, RegistryStore, Scope, SqlConfig, SqliteRegistry, Upstream,
    UpstreamRegistration,
};

use crate::postgres_cluster::Cluster;
use crate::registration::{
    Answer, Decision, ENDPOINT, Endpoint, Recording, configure, disable, path, public, register, remove, revoke, send,
    with,
};
use crate::wait::in_time;

const DAY: Duration = Duration::from_secs(24 * 3600);

impl<S: RegistryStore + 'static> Endpoint for UpstreamRegistration<S> {
    fn ask(&self, request: Request<Full<Bytes>>) -> EndpointFuture {
        self.clone().call(request)
    }
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum Kind {
    Own,
    Upstream,
}

use Kind::{Own, Upstream as AtUpstream};

impl Kind {
    fn origin(self) -> ClientOrigin {
        match self {
            Own => ClientOrigin::Registered,
            AtUpstream => ClientOrigin::Upstream,
        }
    }

    /// A service of this kind. Its upstream accepts every registration.
    async fn service<S: RegistryStore + 'static>(self, store: S, policy: RegistrationPolicy) -> Arc<dyn Endpoint> {
        match self {
            Own => Arc::new(RegistrationService::new(store, ENDPOINT, policy).unwrap()),
            AtUpstream => {
                let upstream = Upstream::endpoint(upstream().await).insecure_http(true).max_concurrent_requests(1_000);
                Arc::new(UpstreamRegistration::new(store, ENDPOINT, upstream, policy).unwrap())
            }
        }
    }
}

/// A registration service on a port: the URL of its endpoint.
async fn upstream() -> String {
    let listener = tokio::net::TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
    let endpoint = format!("http://{}/clients", listener.local_addr().unwrap());
    let policy = RegistrationPolicy::new().allowed_scopes(Scope::parse("*").unwrap()).max_registrations(None);
    let service = RegistrationService::new(MemoryRegistry::new(), &endpoint, policy).unwrap();
    let router = axum::Router::new().nest_service("/clients", service);
    tokio::spawn(async move { axum::serve(listener, router).await });
    endpoint
}

async fn created(service: &dyn Endpoint, body: Value) -> (String, String, String) {
    let answer = register(service, body).await;
    assert_eq!(answer.status, 201, "{}", answer.body);
    (answer.text("client_id").to_owned(), path(&answer), answer.text("registration_access_token").to_owned())
}

async fn touch(store: &impl RegistryStore, id: &str, ago: Duration) {
    store.touch(id, SystemTime::now() - ago).await.unwrap();
}

#[tokio::test]
async fn a_stored_digest_is_no_access_token() {
    for kind in [Own, AtUpstream] {
        let store = MemoryRegistry::new();
        let service = kind.service(store.clone(), RegistrationPolicy::new()).await;
        let (id, path, token) = created(&*service, public()).await;
        let stored = store.get(&id).unwrap().metadata().unwrap()["registration_access_token_sha256"].clone();
        for wrong in [stored.as_str().unwrap(), &stored.as_str().unwrap().to_uppercase(), &token.to_uppercase()] {
            for method in ["GET", "PUT", "DELETE"] {
                let change = with(public(), json!({ "client_id": id }));
                send(&*service, method, &path, Some(wrong), Some(change)).await.assert_error(401, "invalid_token");
            }
        }
        assert_eq!(send(&*service, "GET", &path, Some(&token), None).await.status, 200);
    }
}

#[tokio::test]
async fn an_initial_access_token_is_not_accepted_as_its_digest() {
    for kind in [Own, AtUpstream] {
        let policy = RegistrationPolicy::new().initial_access_token("secret");
        let service = kind.service(MemoryRegistry::new(), policy).await;
        let digest = "2bb80d537b1da3e38bd30361aa855686bde0eacd7162fef6a25fe97bf527a25b";
        let refused = send(&*service, "POST", "/register", Some(digest), Some(public())).await;
        refused.assert_error(401, "invalid_token");
        assert_eq!(send(&*service, "POST", "/register", Some("secret"), Some(public())).await.status, 201);
    }
}

#[tokio::test]
async fn two_authorization_headers_authorize_nothing() {
    for kind in [Own, AtUpstream] {
        let policy = RegistrationPolicy::new().initial_access_token("secret");
        let service = kind.service(MemoryRegistry::new(), policy).await;
        let answer = send(&*service, "POST", "/register", Some("secret"), Some(public())).await;
        let token = answer.text("registration_access_token").to_owned();
        for (method, path, token) in [("POST", "/register", "secret"), ("GET", &*path(&answer), &*token)] {
            for other in [format!("Bearer {token}"), "Bearer other".to_owned(), "Basic YTpi".to_owned()] {
                let request = Request::builder()
                    .method(method)
                    .uri(path)
                    .header("content-type", "application/json")
                    .header("authorization", format!("Bearer {token}"))
                    .header("authorization", other);
                let request = request.body(Full::<Bytes>::from(public().to_string())).unwrap();
                Answer::read(service.ask(request).await.unwrap()).await.assert_error(401, "invalid_token");
            }
        }
    }
}

/// RFC 6750 §2.1.
#[tokio::test]
async fn access_tokens_come_with_the_bearer_scheme() {
    for kind in [Own, AtUpstream] {
        let policy = RegistrationPolicy::new().initial_access_token("secret");
        let service = kind.service(MemoryRegistry::new(), policy).await;
        let post = async |authorization: &str| {
            let request = Request::post("/register").header("content-type", "application/json");
            let request = request.header("authorization", authorization);
            let request = request.body(Full::<Bytes>::from(public().to_string())).unwrap();
            Answer::read(service.ask(request).await.unwrap()).await
        };
        for wrong in ["Basic secret", "DPoP secret", "secret", "Bearer", "Bearer ", "Bearer: secret", "Bearersecret"] {
            post(wrong).await.assert_error(401, "invalid_token");
        }
        for right in ["Bearer secret", "bearer secret", "BEARER  secret"] {
            assert_eq!(post(right).await.status, 201, "{right}");
        }
    }
}

#[tokio::test]
async fn an_expired_client_cannot_manage_itself() {
    for kind in [Own, AtUpstream] {
        let store = MemoryRegistry::new();
        let service = kind.service(store.clone(), RegistrationPolicy::new()).await;
        let (id, path, token) = created(&*service, public()).await;
        let ended = SystemTime::now() - Duration::from_secs(1);
        store.replace(store.get(&id).unwrap().to_builder().expires_at(ended).build().unwrap()).unwrap();
        let before = store.get(&id).unwrap();
        for method in ["GET", "PUT", "DELETE"] {
            let change = with(public(), json!({ "client_id": id }));
            send(&*service, method, &path, Some(&token), Some(change)).await.assert_error(401, "invalid_token");
        }
        assert_eq!(store.get(&id).unwrap(), before);
    }
}

/// A browser sends such a request from any page, without asking first.
#[tokio::test]
async fn a_page_of_another_origin_cannot_register() {
    for kind in [Own, AtUpstream] {
        let store = MemoryRegistry::new();
        let service = kind.service(store.clone(), RegistrationPolicy::new()).await;
        for simple in ["text/plain", "application/x-www-form-urlencoded", "multipart/form-data; boundary=json"] {
            let request =
                Request::post("/register").header("origin", "https://evil.example").header("content-type", simple);
            let request = request.body(Full::<Bytes>::from(public().to_string())).unwrap();
            let answer = Answer::read(service.ask(request).await.unwrap()).await;
            answer.assert_error(415, "invalid_client_metadata");
        }
        let preflight = Request::options("/register")
            .header("origin", "https://evil.example")
            .header("access-control-request-method", "POST")
            .header("access-control-request-headers", "content-type");
        let answer = Answer::read(service.ask(preflight.body(Full::default()).unwrap()).await.unwrap()).await;
        assert_eq!(answer.status, 405);
        assert!(!answer.headers.keys().any(|name| name.as_str().starts_with("access-control-")));
        assert!(store.is_empty());
    }
}

#[tokio::test]
async fn registered_clients_are_dynamic() {
    for kind in [Own, AtUpstream] {
        let store = MemoryRegistry::new();
        let service = kind.service(store.clone(), RegistrationPolicy::new()).await;
        let (id, path, token) = created(&*service, with(public(), json!({ "dynamic": false }))).await;
        assert!(store.get(&id).unwrap().is_dynamic());
        let change = with(public(), json!({ "client_id": id, "dynamic": false }));
        let changed = send(&*service, "PUT", &path, Some(&token), Some(change)).await;
        assert!(store.get(&id).unwrap().is_dynamic() && changed.body.get("dynamic").is_none());
    }
}

/// The bounds of what one stranger can make a server keep.
#[tokio::test]
async fn the_size_of_a_registration_is_bounded() {
    let uris = |count: usize| (0..count).map(|n| format!("https://app.example/{n}")).collect::<Vec<_>>();
    let names = |count: usize| (0..count).map(|n| (format!("client_name#x{n}"), json!("App"))).collect();
    for kind in [Own, AtUpstream] {
        let store = MemoryRegistry::new();
        let service = kind.service(store.clone(), RegistrationPolicy::new().keep_members(["note"])).await;
        for (body, member) in [
            (json!({ "redirect_uris": uris(33) }), "redirect_uris"),
            (json!({ "redirect_uris": [format!("https://app.example/{}", "a".repeat(9_000))] }), "redirect_uris"),
            (json!({ "contacts": vec![""; 33] }), "contacts"),
            (json!({ "default_acr_values": vec!["a"; 33] }), "default_acr_values"),
            (json!({ "post_logout_redirect_uris": uris(33) }), "post_logout_redirect_uris"),
            (json!({ "response_types": vec!["code"; 33] }), "response_types"),
            (json!({ "grant_types": vec!["authorization_code"; 33] }), "grant_types"),
            (json!({ "authorization_details_types": vec!["a"; 33] }), "authorization_details_types"),
            (json!({ "jwks": { "keys": vec![json!({}); 33] } }), "jwks"),
            (json!({ "note": [[vec![1; 33]]] }), "note"),
            (json!({ "client_name": "a".repeat(9_000) }), "client_name"),
            (json!({ "software_id": "a".repeat(4_000), "software_version": "a".repeat(4_200) }), "software_version"),
            (json!({ "jwks": { "keys": [{ "n": "a".repeat(9_000) }] } }), "jwks"),
            (Value::Object(names(17)), "client_name"),
            (json!({ "client_name": "a\u{7}b" }), "client_name"),
            (json!({ "client_name#de": "a\u{202E}b" }), "client_name#de"),
            (json!({ "client_name": "a\u{61C}b" }), "client_name"),
            (json!({ "contacts": ["a\u{2066}b"] }), "contacts"),
            (json!({ "jwks": { "keys": [{ "kid": "a\n" }] } }), "jwks"),
            (json!({ "note": { "a\u{200F}": 1 } }), "note"),
        ] {
            let refused = register(&*service, with(public(), body)).await;
            refused.assert_error(400, "invalid_client_metadata");
            let description = refused.text("error_description");
            assert!(description.starts_with(&format!("{member}: ")), "{description}");
        }
        for wrong in [
            json!(["https://app.example/\u{202E}"]),
            json!(["launcher://run"]),
            json!(["ms-appinstaller:?source=https://evil.example"]),
            json!(["search-ms:query"]),
            json!(["smb://evil.example/share"]),
        ] {
            let body = json!({ "redirect_uris": wrong, "token_endpoint_auth_method": "none" });
            register(&*service, body).await.assert_error(400, "invalid_redirect_uri");
        }
        assert!(store.is_empty());

        // A change is bounded likewise.
        let most = with(Value::Object(names(16)), json!({ "redirect_uris": uris(32), "contacts": vec!["a"; 32] }));
        let (id, path, token) = created(&*service, most).await;
        let change = json!({ "client_id": id, "redirect_uris": uris(1), "contacts": vec!["a"; 33] });
        let refused = send(&*service, "PUT", &path, Some(&token), Some(change)).await;
        refused.assert_error(400, "invalid_client_metadata");
        // Unknown members are not kept.
        let ignored = with(public(), json!({ "unknown": vec!["\u{202E}"; 1_000] }));
        created(&*service, ignored).await;
        let larger = json!({ "redirect_uris": uris(1), "unknown": "a".repeat(64 * 1024) });
        register(&*service, larger).await.assert_error(413, "invalid_client_metadata");
    }
}

#[tokio::test]
async fn unpaired_surrogates_are_refused() {
    for kind in [Own, AtUpstream] {
        let service = kind.service(MemoryRegistry::new(), RegistrationPolicy::new()).await;
        for name in [r#""\ud800""#, r#""\udc00""#, r#""\ud800\ud800""#, r#""\ud800a""#] {
            let body = format!(r#"{{"redirect_uris":["https://app.example/"],"client_name":{name}}}"#);
            let request = Request::post("/register").header("content-type", "application/json");
            let request = request.body(Full::<Bytes>::from(body)).unwrap();
            let answer = Answer::read(service.ask(request).await.unwrap()).await;
            answer.assert_error(400, "invalid_client_metadata");
        }
        let request = Request::post("/register").header("content-type", "application/json");
        let request = request.body(Full::<Bytes>::from(&b"{\"client_name\":\"\xff\"}"[..])).unwrap();
        let answer = Answer::read(service.ask(request).await.unwrap()).await;
        answer.assert_error(400, "invalid_client_metadata");
    }
}

#[tokio::test]
async fn the_operators_own_rules_hold() {
    for kind in [Own, AtUpstream] {
        let origin = kind.origin();
        let rules = DynamicClientRules::new().private_use_schemes(["launcher"]).max_redirect_uris(1).check(
            move |from, metadata| {
                assert_eq!(from, origin);
                match metadata.get("client_name").and_then(Value::as_str) {
                    Some("Your Bank") => Err(DynamicClientError::new("client_name", "\"Your Bank\" is ours, naïvely")),
                    _ => Ok(()),
                }
            },
        );
        let service = kind.service(MemoryRegistry::new(), RegistrationPolicy::new().rules(rules)).await;
        let refused = register(&*service, with(public(), json!({ "client_name": "Your Bank" }))).await;
        refused.assert_error(400, "invalid_client_metadata");
        assert_eq!(refused.text("error_description"), "client_name: ?Your Bank? is ours, na?vely");
        let two = json!({ "redirect_uris": ["https://app.example/a", "https://app.example/b"] });
        register(&*service, two).await.assert_error(400, "invalid_client_metadata");
        if kind == Own {
            created(&*service, json!({ "redirect_uris": ["launcher://run"] })).await;
        }
    }
}

#[tokio::test]
async fn members_for_authentication_and_pushed_requests_are_kept_and_answered() {
    let members = json!({
        "jwks_uri": "https://app.example/keys",
        "token_endpoint_auth_signing_alg": "ES256",
        "request_object_signing_alg": "EdDSA",
        "require_pushed_authorization_requests": true,
        "require_signed_request_object": true,
        "authorization_details_types": ["payment_initiation"],
        "dpop_bound_access_tokens": true,
    });
    for kind in [Own, AtUpstream] {
        let store = MemoryRegistry::new();
        let service = kind.service(store.clone(), RegistrationPolicy::new()).await;
        let answer = register(&*service, with(public(), members.clone())).await;
        assert_eq!(answer.status, 201, "{}", answer.body);
        let client = store.get(answer.text("client_id")).unwrap();
        for (name, value) in members.as_object().unwrap() {
            assert_eq!((&answer.body[name], client.metadata().unwrap().get(name)), (value, Some(value)), "{name}");
        }
        assert!(client.require_pushed_authorization_requests() && client.require_signed_request_object());
        for wrong in [
            json!({ "require_pushed_authorization_requests": "true" }),
            json!({ "require_signed_request_object": 1 }),
            json!({ "authorization_details_types": "payment_initiation" }),
            json!({ "token_endpoint_auth_signing_alg": "none" }),
            json!({ "token_endpoint_auth_signing_alg": "HS256" }),
            json!({ "token_endpoint_auth_signing_alg": "" }),
            json!({ "token_endpoint_auth_signing_alg": "A128GCM" }),
            json!({ "token_endpoint_auth_method": "private_key_jwt" }),
            json!({ "token_endpoint_auth_method": "client_secret_jwt" }),
            json!({ "request_object_signing_alg": "none" }),
            json!({ "request_object_signing_alg": ["ES256"] }),
            json!({ "token_endpoint_auth_methods_supported": "none" }),
        ] {
            let refused = register(&*service, with(public(), wrong)).await;
            refused.assert_error(400, "invalid_client_metadata");
        }
    }
}

/// OpenID Connect Relying Party Metadata Choices.
#[tokio::test]
async fn of_several_authentication_methods_the_first_supported_one_is_registered() {
    let keys = RegistrationPolicy::new();
    let keyless = RegistrationPolicy::new().auth_methods(["none", "client_secret_basic"]);
    for (policy, single, choices, method, kept) in [
        (keyless.clone(), "private_key_jwt", json!(["none", "private_key_jwt"]), "none", json!(["none"])),
        (keyless, "private_key_jwt", json!(["private_key_jwt", "none"]), "none", json!(["none"])),
        (
            keys.clone(),
            "none",
            json!(["tls_client_auth", "private_key_jwt", "none"]),
            "private_key_jwt",
            json!(["private_key_jwt", "none"]),
        ),
        (keys.clone(), "none", json!(["tls_client_auth"]), "none", Value::Null),
        (keys.clone(), "none", json!([]), "none", Value::Null),
    ] {
        let store = MemoryRegistry::new();
        let service = Own.service(store.clone(), policy).await;
        let body = json!({
            "redirect_uris": ["https://app.example/"],
            "jwks_uri": "https://app.example/keys",
            "token_endpoint_auth_method": single,
            "token_endpoint_auth_methods_supported": choices,
        });
        let answer = register(&*service, body).await;
        assert_eq!(answer.status, 201, "{}", answer.body);
        assert_eq!(answer.text("token_endpoint_auth_method"), method);
        assert_eq!(answer.body["token_endpoint_auth_methods_supported"], kept);
        assert_eq!(answer.body.get("client_secret"), None);
        assert_eq!(store.get(answer.text("client_id")).unwrap().token_endpoint_auth_method(), method);
    }
    // Nothing that is left, and keys that are missing.
    let service = Own.service(MemoryRegistry::new(), keys).await;
    for choices in [json!(["tls_client_auth"]), json!(["private_key_jwt"])] {
        let body = json!({
            "redirect_uris": ["https://app.example/"],
            "token_endpoint_auth_method": "private_key_jwt",
            "token_endpoint_auth_methods_supported": choices,
        });
        register(&*service, body).await.assert_error(400, "invalid_client_metadata");
    }
}

#[tokio::test]
async fn registrations_end_after_their_last_use() {
    for kind in [Own, AtUpstream] {
        let store = MemoryRegistry::new();
        let service = kind.service(store.clone(), RegistrationPolicy::new()).await;
        let (old, ..) = created(&*service, public()).await;
        let (current, ..) = created(&*service, public()).await;
        let (unused, ..) = created(&*service, public()).await;
        let disabled = created(&*service, public()).await.0;
        touch(&store, &old, 91 * DAY).await;
        touch(&store, &current, 89 * DAY).await;
        touch(&store, &disabled, 91 * DAY).await;
        disable(&store, &disabled);
        // A service that has not cleaned up within the last minute.
        let service = kind.service(store.clone(), RegistrationPolicy::new()).await;
        created(&*service, public()).await;
        assert!(store.get(&old).is_none());
        assert!([&current, &unused, &disabled].into_iter().all(|id| store.get(id).is_some()), "{kind:?}");

        let service = kind.service(store.clone(), RegistrationPolicy::new().idle_lifetime(30 * DAY)).await;
        created(&*service, public()).await;
        assert!(store.get(&current).is_none() && store.get(&unused).is_some());
    }
    let store = MemoryRegistry::new();
    let forever =
        RegistrationService::new(store.clone(), ENDPOINT, RegistrationPolicy::new().idle_lifetime(None)).unwrap();
    let (id, ..) = created(&forever, public()).await;
    touch(&store, &id, 10_000 * DAY).await;
    assert_eq!(forever.clean_up().await.unwrap(), 0);
    let service = RegistrationService::new(store.clone(), ENDPOINT, RegistrationPolicy::new()).unwrap();
    assert_eq!(service.clean_up().await.unwrap(), 1);
}

/// A code that was redeemed once for each client must not close the endpoint.
#[tokio::test]
async fn a_store_full_of_used_clients_accepts_new_ones_after_a_day() {
    for kind in [Own, AtUpstream] {
        let store = MemoryRegistry::new();
        let service = kind.service(store.clone(), RegistrationPolicy::new().max_registrations(3)).await;
        let mut ids = Vec::new();
        for hours in [30, 50, 5] {
            let (id, ..) = created(&*service, public()).await;
            touch(&store, &id, Duration::from_secs(hours * 3600)).await;
            ids.push(id);
        }
        // The client that was not used for longest.
        let (new, ..) = created(&*service, public()).await;
        touch(&store, &new, Duration::ZERO).await;
        assert!(store.get(&ids[1]).is_none() && store.get(&ids[0]).is_some());
        let (new, ..) = created(&*service, public()).await;
        touch(&store, &new, Duration::ZERO).await;
        assert!(store.get(&ids[0]).is_none() && store.get(&ids[2]).is_some());
        // All others are in use.
        let refused = register(&*service, public()).await;
        refused.assert_error(503, "temporarily_unavailable");
        assert!(refused.headers.contains_key("retry-after"));
        assert_eq!(store.len(), 3);
    }
}

/// The store's own bound must not lock anybody out either.
#[tokio::test]
async fn a_store_that_is_full_makes_room_like_the_maximum() {
    let body = |size: usize| with(public(), json!({ "contacts": vec!["a".repeat(size); 32] }));
    for kind in [Own, AtUpstream] {
        let store = MemoryRegistry::new().max_bytes(40_000);
        let service = kind.service(store.clone(), RegistrationPolicy::new()).await;
        let (used, ..) = created(&*service, body(1)).await;
        touch(&store, &used, Duration::ZERO).await;
        let (first, ..) = created(&*service, body(1)).await;
        disable(&store, &first);
        for _ in 0..100 {
            created(&*service, body(1)).await;
        }
        let before = store.len();
        assert!((4..100).contains(&before), "{before}");
        // A large client takes the room of several.
        let (large, ..) = created(&*service, body(200)).await;
        assert!([&used, &first, &large].into_iter().all(|id| store.get(id).is_some()), "{kind:?}");
        assert!(store.len() < before && store.bytes() <= 40_000);

        // Nobody who is in use makes room.
        for client in store.list() {
            touch(&store, client.id(), Duration::ZERO).await;
        }
        let before = store.len();
        let mut refused = register(&*service, body(200)).await;
        for _ in 0..10 {
            if refused.status != 201 {
                break;
            }
            touch(&store, refused.text("client_id"), Duration::ZERO).await;
            refused = register(&*service, body(200)).await;
        }
        refused.assert_error(503, "temporarily_unavailable");
        assert!(refused.headers.contains_key("retry-after") && store.len() >= before);
    }
}

/// A client that could never fit is refused after a bounded number of others was removed.
#[tokio::test]
async fn a_client_larger_than_the_store_is_refused() {
    for kind in [Own, AtUpstream] {
        let store = MemoryRegistry::new().max_bytes(1_000);
        let service = kind.service(store.clone(), RegistrationPolicy::new()).await;
        let refused = register(&*service, with(public(), json!({ "client_name": "a".repeat(4_000) }))).await;
        refused.assert_error(503, "temporarily_unavailable");
        assert!(store.is_empty());
    }
}

#[tokio::test]
async fn one_source_cannot_fill_the_store() {
    let tokens = || RegistrationPolicy::new().initial_access_token("a").initial_access_token("b");
    let hook = RegistrationPolicy::new()
        .source_hook(|parts| Some(parts.headers.get("authorization")?.to_str().ok()?.to_owned()));
    for kind in [Own, AtUpstream] {
        for policy in [tokens(), RegistrationPolicy::new().initial_access_token_hook(async |_| true), hook.clone()] {
            let store = MemoryRegistry::new();
            let service = kind.service(store.clone(), policy.max_registrations(6)).await;
            let by = async |token: &str| {
                let answer = send(&*service, "POST", "/register", Some(token), Some(public())).await;
                assert!(!answer.body.to_string().contains("registration_source"));
                answer.body["client_id"].as_str().map(str::to_owned)
            };
            let honest = by("b").await.unwrap();
            for _ in 0..20 {
                assert!(by("a").await.is_some());
            }
            // Half of what there is room for.
            assert_eq!(store.len(), 1 + 3);
            assert!(store.get(&honest).is_some());
            for client in store.list() {
                touch(&store, client.id(), Duration::ZERO).await;
            }
            assert_eq!(by("a").await, None);
            let other = by("b").await.unwrap();
            // The source stays known after a change.
            let changed = store.get(&other).unwrap();
            assert!(changed.metadata().unwrap().contains_key("registration_source"));
            assert!(!serde_json::to_string(&changed.to_metadata()).unwrap().contains("Bearer"));
        }
    }
}

#[tokio::test]
async fn a_change_does_not_hide_the_source() {
    for kind in [Own, AtUpstream] {
        let store = MemoryRegistry::new();
        let policy = RegistrationPolicy::new().source_hook(|_| Some("everybody".to_owned()));
        let service = kind.service(store.clone(), policy.max_registrations_per_source(2)).await;
        for _ in 0..4 {
            let (id, path, token) = created(&*service, public()).await;
            let change = with(public(), json!({ "client_id": id, "client_name": "New" }));
            assert_eq!(send(&*service, "PUT", &path, Some(&token), Some(change)).await.status, 200);
        }
        assert_eq!(store.len(), 2);
    }
}

/// As many as wait; one more is refused.
#[tokio::test]
async fn registrations_that_wait_for_the_store_are_bounded() {
    let store = Recording::default();
    let gate = Arc::new(Barrier::new(2));
    *store.meeting.lock().unwrap() = Some((Arc::clone(&gate), 1));
    let policy = RegistrationPolicy::new().reuse_identical(true);
    let service = RegistrationService::new(store.clone(), ENDPOINT, policy).unwrap();
    assert_eq!(register(&service, public()).await.status, 201);
    // Reuses the client, and stops in the middle of it.
    let registrations: Vec<_> = (0..1_002)
        .map(|_| {
            let service = service.clone();
            tokio::spawn(async move { register(&service, public()).await })
        })
        .collect();
    let mut registrations = registrations.into_iter();
    let last = in_time(registrations.next_back().unwrap()).await.unwrap();
    last.assert_error(503, "temporarily_unavailable");
    assert!(last.headers.contains_key("retry-after"));
    in_time(gate.wait()).await;
    let statuses: Vec<_> =
        in_time(join_all(registrations)).await.into_iter().map(|answer| answer.unwrap().status).collect();
    assert_eq!(statuses.iter().filter(|status| **status == 201).count(), 1_000);
}

/// Otherwise all that wait would find out one after the other, each after the store's timeout.
#[tokio::test]
async fn an_outage_of_the_store_refuses_all_registrations_that_wait() {
    let store = Recording::default();
    let policy = RegistrationPolicy::new().reuse_identical(true);
    let service = RegistrationService::new(store.clone(), ENDPOINT, policy).unwrap();
    assert_eq!(register(&service, public()).await.status, 201);
    let gate = Arc::new(Barrier::new(2));
    *store.meeting.lock().unwrap() = Some((Arc::clone(&gate), 1));
    let outage = async {
        // The first registration holds the turn, and all others wait for it.
        *store.fails.lock().unwrap() = true;
        gate.wait().await;
    };
    let registrations = join_all((0..20).map(|_| register(&service, public())));
    let (answers, ()) = in_time(futures::future::join(registrations, outage)).await;
    assert!(answers.iter().all(|answer| answer.status == 503));
    assert_eq!(store.failures.load(Ordering::SeqCst), 1, "only the first one asked the store");
    *store.fails.lock().unwrap() = false;
    assert_eq!(register(&service, public()).await.status, 201, "it recovers");
}

/// Two servers share the store, and each registers as fast as it can; some clients are used at once.
async fn past_the_cap<S: RegistryStore + Clone + 'static>(kind: Kind, store: S, each: usize) {
    const CAP: u64 = 50;
    let policy = || RegistrationPolicy::new().max_registrations(CAP);
    let nodes = [kind.service(store.clone(), policy()).await, kind.service(store.clone(), policy()).await];
    store.insert(Client::builder("configured").build().unwrap(), ClientOrigin::Configured).await.unwrap();
    let tasks = (0..8).map(|task| {
        let (service, store) = (Arc::clone(&nodes[task % 2]), store.clone());
        tokio::spawn(async move {
            let mut used = Vec::new();
            for n in 0..each {
                let (id, ..) = created(&*service, public()).await;
                // It may be removed already; then it was not used.
                if n % 6 == 0 && used.len() < 4 && store.touch(&id, SystemTime::now()).await.is_ok() {
                    used.push(id);
                }
                // Each server but one may have counted just before another one inserted.
                assert!(store.count(kind.origin()).await.unwrap() <= CAP + 1);
            }
            used
        })
    });
    let mut used = vec!["configured".to_owned()];
    for task in tasks.collect::<Vec<_>>() {
        used.extend(in_time(task).await.unwrap());
    }
    assert!(used.len() > 8, "{used:?}");
    let rows = store.list(None, usize::MAX).await.unwrap();
    assert!(rows.len() as u64 <= CAP + 2, "{}", rows.len());
    assert!(used.iter().all(|id| rows.iter().any(|row| row.client.id() == id)), "a client that was used is gone");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn registrations_past_the_maximum_replace_unused_clients_only() {
    past_the_cap(Own, MemoryRegistry::new(), 250).await;
    past_the_cap(AtUpstream, MemoryRegistry::new(), 25).await;
}

/// A SQLite file, and a database of PostgreSQL where it is installed.
async fn databases() -> (tempfile::TempDir, Vec<BoxStore>) {
    let folder = tempfile::tempdir().unwrap();
    let url = format!("sqlite://{}", folder.path().join("clients.sqlite").display());
    let patience = Duration::from_secs(20);
    let options = SqlConfig::default().acquire_timeout(patience).statement_timeout(patience);
    let sqlite = SqliteRegistry::connect_with(&url, options).await.unwrap();
    sqlite.migrate().await.unwrap();
    let mut stores = vec![sqlite.boxed_store()];
    if let Some(cluster) = Cluster::shared() {
        stores.push(cluster.registry().await.boxed_store());
    }
    (folder, stores)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn registrations_past_the_maximum_replace_unused_rows_only() {
    let (_folder, stores) = databases().await;
    for store in stores {
        past_the_cap(Own, store, 25).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn idle_rows_and_rows_of_one_source_are_bounded() {
    let (_folder, stores) = databases().await;
    for store in stores {
        let policy = RegistrationPolicy::new().initial_access_token("a").initial_access_token("b").max_registrations(6);
        let service = RegistrationService::new(Arc::clone(&store), ENDPOINT, policy).unwrap();
        let by = async |token: &str| {
            let answer = send(&service, "POST", "/register", Some(token), Some(public())).await;
            assert_eq!(answer.status, 201, "{}", answer.body);
            answer.text("client_id").to_owned()
        };
        let honest = by("b").await;
        for _ in 0..8 {
            by("a").await;
        }
        assert!(store.record(&honest).await.unwrap().is_some());
        assert_eq!(store.count(ClientOrigin::Registered).await.unwrap(), 4);
        touch(&store, &honest, 91 * DAY).await;
        assert_eq!(service.clean_up().await.unwrap(), 1);
        assert!(store.record(&honest).await.unwrap().is_none());
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn an_access_token_is_rotated_by_an_update_in_a_database() {
    for kind in [Own, AtUpstream] {
        let (_folder, stores) = databases().await;
        for store in stores {
            let service = kind.service(store, RegistrationPolicy::new()).await;
            let (id, path, token) = created(&*service, public()).await;
            let changes = (0..8).map(|n| {
                let (service, path, token) = (Arc::clone(&service), path.clone(), token.clone());
                let change = with(public(), json!({ "client_id": id, "client_name": n.to_string() }));
                tokio::spawn(async move { send(&*service, "PUT", &path, Some(&token), Some(change)).await })
            });
            let mut won = Vec::new();
            for change in changes.collect::<Vec<_>>() {
                let answer = in_time(change).await.unwrap();
                if answer.status == 200 {
                    won.push(answer);
                } else {
                    answer.assert_error(401, "invalid_token");
                }
            }
            assert_eq!(won.len(), 1);
            let read = send(&*service, "GET", &path, Some(won[0].text("registration_access_token")), None).await;
            assert_eq!((read.status.as_u16(), read.text("client_name")), (200, won[0].text("client_name")));
        }
    }
}

#[tokio::test]
async fn an_access_token_is_rotated_by_an_update() {
    for (kind, shared) in [(Own, false), (Own, true), (AtUpstream, false)] {
        for other in ["PUT", "DELETE"] {
            let store = Recording::default();
            let service = kind.service(store.clone(), RegistrationPolicy::new().reuse_identical(shared)).await;
            let (id, path, token) = created(&*service, public()).await;
            if kind == Own {
                // Both have decided before either one writes.
                *store.meeting.lock().unwrap() = Some((Arc::new(Barrier::new(2)), 2));
            }
            let change = with(public(), json!({ "client_id": id }));
            let (first, second) = in_time(futures::future::join(
                send(&*service, "PUT", &path, Some(&token), Some(change.clone())),
                send(&*service, other, &path, Some(&token), Some(change.clone())),
            ))
            .await;
            let (won, lost) = if first.status == 200 { (first, second) } else { (second, first) };
            assert!(won.status.is_success(), "{}", won.body);
            lost.assert_error(401, "invalid_token");
            send(&*service, "GET", &path, Some(&token), None).await.assert_error(401, "invalid_token");
            if won.status == 200 {
                let token = won.text("registration_access_token");
                assert_eq!(send(&*service, "GET", &path, Some(token), None).await.status, 200);
            } else {
                assert_eq!(store.inner.get(&id).is_some(), shared);
            }
        }
    }
}

#[tokio::test]
async fn a_concurrent_decision_of_the_operator_prevails() {
    for kind in [Own, AtUpstream] {
        for decide in [disable, revoke, remove, configure] as [Decision; 4] {
            // The upstream has deleted the client before the operator's decision is seen.
            for (method, done) in [("PUT", false), ("DELETE", kind == AtUpstream)] {
                let store = Recording::default();
                let service = kind.service(store.clone(), RegistrationPolicy::new()).await;
                let (id, path, token) = created(&*service, public()).await;
                let expected = MemoryRegistry::from_clients([(*store.inner.get(&id).unwrap()).clone()]);
                decide(&expected, &id);
                store.meanwhile(&id, decide);
                let change = with(public(), json!({ "client_id": id, "client_name": "New" }));
                let answer = send(&*service, method, &path, Some(&token), Some(change)).await;
                if done {
                    assert_eq!(answer.status, 204);
                } else {
                    answer.assert_error(401, "invalid_token");
                }
                assert_eq!(store.inner.get(&id), expected.get(&id), "{kind:?} {method}");
            }
        }
    }
}

#[tokio::test]
async fn a_concurrent_grant_of_the_operator_is_kept() {
    const END: Duration = Duration::from_secs(4_000_000_000);
    fn trust(store: &MemoryRegistry, id: &str) {
        let end = SystemTime::UNIX_EPOCH + END;
        store.replace(store.get(id).unwrap().to_builder().trusted(true).expires_at(end).build().unwrap()).unwrap();
    }
    for kind in [Own, AtUpstream] {
        for (uri, trusted) in [("http://127.0.0.1/callback", true), ("https://new.example/", false)] {
            let store = Recording::default();
            let service = kind.service(store.clone(), RegistrationPolicy::new()).await;
            let (id, path, token) = created(&*service, public()).await;
            store.meanwhile(&id, trust);
            let change = with(public(), json!({ "client_id": id, "client_name": "New", "redirect_uris": [uri] }));
            let changed = send(&*service, "PUT", &path, Some(&token), Some(change)).await;
            assert_eq!(changed.status, 200);
            let client = store.inner.get(&id).unwrap();
            assert_eq!(client.name(), Some("New"));
            assert_eq!((client.is_trusted(), client.expires_at()), (trusted, Some(SystemTime::UNIX_EPOCH + END)));
            // The token in the answer is the one that is valid.
            let token = changed.text("registration_access_token");
            assert_eq!(send(&*service, "GET", &path, Some(token), None).await.status, 200);

            store.meanwhile(&id, trust);
            assert_eq!(send(&*service, "DELETE", &path, Some(token), None).await.status, 204);
            assert!(store.inner.is_empty());
        }
    }
}

/// The client's own request must not undo what an operator took away, however often it is sent.
#[tokio::test]
async fn restrictions_by_the_operator_survive_an_update() {
    let wide = || {
        json!({
            "redirect_uris": ["https://app.example/a", "https://app.example/b"],
            "token_endpoint_auth_method": "none",
            "grant_types": ["authorization_code", "refresh_token"],
            "scope": "profile photos:write",
            "client_name": "Your Bank",
            "logo_uri": "https://app.example/logo.png",
            "contacts": ["a@app.example", "b@app.example"],
        })
    };
    let policy = || RegistrationPolicy::new().allowed_scopes(Scope::parse("profile photos:write admin").unwrap());
    for kind in [Own, AtUpstream] {
        let store = MemoryRegistry::new();
        let service = kind.service(store.clone(), policy()).await;
        let (id, path, mut token) = created(&*service, wide()).await;
        let narrowed = store.get(&id).unwrap().to_builder();
        let narrowed = narrowed.clear_redirect_uris().redirect_uri("https://app.example/a").scope("profile");
        let narrowed = narrowed.grant_types(GrantTypes::AUTHORIZATION_CODE).name("App (not a bank)");
        let mut members = narrowed.build().unwrap().to_metadata();
        members.remove("logo_uri");
        members.insert("note".into(), "watch this one".into());
        members.insert("contacts".into(), json!(["a@app.example"]));
        store.replace(Client::from_metadata(members).unwrap()).unwrap();

        for round in 0..3 {
            let change = with(wide(), json!({ "client_id": id, "scope": "profile photos:write admin" }));
            let answer = send(&*service, "PUT", &path, Some(&token), Some(change)).await;
            assert_eq!(answer.status, 200, "{}", answer.body);
            token = answer.text("registration_access_token").to_owned();
            if round == 1 {
                let answer = send(&*service, "GET", &path, Some(&token), None).await;
                token = answer.text("registration_access_token").to_owned();
            }
            let client = store.get(&id).unwrap();
            let uris: Vec<_> = client.redirect_uris().iter().map(|uri| uri.as_str()).collect();
            assert_eq!(uris, ["https://app.example/a"], "{kind:?}");
            assert_eq!(client.allowed_scopes().unwrap().as_str(), "profile");
            assert_eq!(client.grant_types(), GrantTypes::AUTHORIZATION_CODE);
            assert_eq!(client.name(), Some("App (not a bank)"));
            let metadata = client.metadata().unwrap();
            assert!(!metadata.contains_key("logo_uri"));
            assert_eq!(
                (&metadata["note"], &metadata["contacts"]),
                (&json!("watch this one"), &json!(["a@app.example"]))
            );
            // The answer says so.
            assert_eq!(answer.body["redirect_uris"], json!(["https://app.example/a"]));
            assert_eq!((answer.text("scope"), answer.text("client_name")), ("profile", "App (not a bank)"));
            assert!(answer.body.get("logo_uri").is_none() && answer.body.get("registration_granted").is_none());
        }
        // A client that asks for other scopes keeps those that it has: without any it might get the policy's default.
        let change = with(wide(), json!({ "client_id": id, "scope": "photos:write" }));
        let answer = send(&*service, "PUT", &path, Some(&token), Some(change)).await;
        assert_eq!((answer.status.as_u16(), answer.text("scope")), (200, "profile"), "{}", answer.body);
        assert_eq!(store.get(&id).unwrap().allowed_scopes().unwrap().as_str(), "profile");
        token = answer.text("registration_access_token").to_owned();
        // Nothing that is left.
        let other = with(wide(), json!({ "client_id": id, "redirect_uris": ["https://app.example/b"] }));
        let refused = send(&*service, "PUT", &path, Some(&token), Some(other)).await;
        refused.assert_error(400, "invalid_redirect_uri");
    }
}

/// What is granted by default must be allowed.
#[tokio::test]
async fn default_scopes_are_narrowed_with_the_scopes() {
    let scope = |text| Scope::parse(text).unwrap();
    let policy =
        || RegistrationPolicy::new().allowed_scopes(scope("a b")).default_scopes(scope("b")).grant_all_scopes(true);
    for kind in [Own, AtUpstream] {
        let store = MemoryRegistry::new();
        let service = kind.service(store.clone(), policy()).await;
        let (id, path, token) = created(&*service, public()).await;
        let narrowed = store.get(&id).unwrap().to_builder().scope("a").default_scope("a").build().unwrap();
        store.replace(narrowed).unwrap();
        let change = with(public(), json!({ "client_id": id, "client_name": "New" }));
        let answer = send(&*service, "PUT", &path, Some(&token), Some(change)).await;
        assert_eq!(answer.status, 200, "{}", answer.body);
        let client = store.get(&id).unwrap();
        assert_eq!(client.allowed_scopes().unwrap().as_str(), "a", "{kind:?}");
        assert!(client.default_scopes().is_none_or(|scopes| !scopes.contains("b")), "{kind:?}");
    }
}

/// An operator who adds something takes nothing away.
#[tokio::test]
async fn an_operator_who_allows_all_scopes_does_not_limit_the_client() {
    let policy = || RegistrationPolicy::new().allowed_scopes(Scope::parse("profile email").unwrap());
    for kind in [Own, AtUpstream] {
        let store = MemoryRegistry::new();
        let service = kind.service(store.clone(), policy()).await;
        let (id, path, token) = created(&*service, with(public(), json!({ "scope": "profile" }))).await;
        store.replace(store.get(&id).unwrap().to_builder().scope("*").build().unwrap()).unwrap();
        let change = with(public(), json!({ "client_id": id, "scope": "email" }));
        let answer = send(&*service, "PUT", &path, Some(&token), Some(change)).await;
        assert_eq!((answer.status.as_u16(), answer.text("scope")), (200, "email"), "{kind:?}");
    }
}

#[tokio::test]
async fn a_member_that_an_operator_added_stays_whatever_the_client_sends() {
    for kind in [Own, AtUpstream] {
        let store = MemoryRegistry::new();
        let service = kind.service(store.clone(), RegistrationPolicy::new()).await;
        let (id, path, mut token) = created(&*service, public()).await;
        let ours = "https://ours.example/logo.png";
        let client = store.get(&id).unwrap().to_builder().metadata("logo_uri", ours).build().unwrap();
        store.replace(client).unwrap();
        // The same value first, and then another one.
        for logo_uri in [ours, "https://theirs.example/logo.png"] {
            let change = with(public(), json!({ "client_id": id, "logo_uri": logo_uri }));
            let answer = send(&*service, "PUT", &path, Some(&token), Some(change)).await;
            assert_eq!((answer.status.as_u16(), answer.text("logo_uri")), (200, ours), "{kind:?}");
            token = answer.text("registration_access_token").to_owned();
        }
    }
}

/// Secrets that the operator gave a client are for a client that authenticates with one.
#[tokio::test]
async fn a_client_that_becomes_public_loses_all_of_its_secrets() {
    let confidential = || json!({ "redirect_uris": ["https://app.example/"], "client_name": "App" });
    for kind in [Own, AtUpstream] {
        let store = MemoryRegistry::new();
        let service = kind.service(store.clone(), RegistrationPolicy::new()).await;
        let (id, path, mut token) = created(&*service, confidential()).await;
        let secrets = ["client_secret", "client_secret_hash", "previous_client_secret_sha256"];
        let mut given = store.get(&id).unwrap().to_builder();
        for name in secrets {
            given = given.metadata(name, "operator's");
        }
        store.replace(given.build().unwrap()).unwrap();
        for (method, has_secrets) in [("client_secret_basic", true), ("none", false)] {
            let change = json!({ "client_id": id, "token_endpoint_auth_method": method });
            let answer = send(&*service, "PUT", &path, Some(&token), Some(with(confidential(), change))).await;
            assert_eq!(answer.status, 200, "{}", answer.body);
            token = answer.text("registration_access_token").to_owned();
            assert!(!answer.body.to_string().contains("operator's"), "{}", answer.body);
            let metadata = store.get(&id).unwrap().metadata().unwrap().clone();
            if kind == Own || has_secrets {
                assert!(secrets.iter().all(|name| metadata.contains_key(*name) == has_secrets), "{metadata:?}");
            }
        }
    }
}

#[tokio::test]
async fn a_client_can_update_what_the_operator_did_not_change() {
    for kind in [Own, AtUpstream] {
        let store = MemoryRegistry::new();
        let service = kind.service(store.clone(), RegistrationPolicy::new()).await;
        let (id, path, token) = created(&*service, with(public(), json!({ "client_name": "Old" }))).await;
        // An operator who adds a value removes nothing.
        let more = store.get(&id).unwrap().to_builder().redirect_uri("https://operator.example/").build().unwrap();
        store.replace(more).unwrap();
        let mut token = token;
        for (name, uri) in [("New", "https://new.example/"), ("Newer", "https://newer.example/")] {
            let change = json!({ "client_id": id, "client_name": name, "redirect_uris": [uri] });
            let answer = send(&*service, "PUT", &path, Some(&token), Some(with(public(), change))).await;
            assert_eq!(answer.status, 200, "{}", answer.body);
            token = answer.text("registration_access_token").to_owned();
            let client = store.get(&id).unwrap();
            assert_eq!((client.name(), client.redirect_uris()[0].as_str()), (Some(name), uri));
            assert_eq!(client.redirect_uris().len(), 1);
        }
    }
}
