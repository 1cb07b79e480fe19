//! Requests that are sealed, and opened by another process.

use std::time::Duration;

use bytes::Bytes;
use futures::FutureExt;
use futures::future::BoxFuture;
use http::{HeaderMap, Method, Request, Response};
use http_body_util::{BodyExt, Full};
use serde_json::{Value, json};
use tower::{Layer, ServiceExt};
use tower_oauth_client_validation::{
    AuthenticationPolicy, AuthorizationRequest, Client, ClientAuthenticationLayer, ClientValidationLayer, ErrorCode,
    MemoryRegistry, MemoryStateStore, OpenErrorKind, Parameter, Policy, PushedRequestService, PushedRequests,
    PushedRequestsBuilder, RegistryError, RegistrySource, Rejection, RequestSealer, ScopeExcess, SealKeys,
    SignedRequests, StateBounds, StateError, StateStore, Tenant, UseUpErrorKind, ValidatedRequest, Validator, Verdict,
    registry_fn,
};

use crate::signing::{key_set, sign};

const KEY: [u8; 32] = [7; 32];
const CHALLENGE: &str = "E9Melhoa2OwvFrEMTJguCHaoeK1t8URWbuGJSstw-cM";

fn validator() -> Validator {
    Validator::new(Policy::rfc9700().issuer("https://login.example").build().unwrap())
}

fn app(change: Value) -> Client {
    let mut client = json!({ "client_id": "app", "redirect_uris": ["https://app.example/cb"], "scope": "read write" });
    client.as_object_mut().unwrap().extend(change.as_object().cloned().unwrap());
    Client::from_metadata(client).unwrap()
}

fn registry(change: Value) -> MemoryRegistry {
    MemoryRegistry::from_clients([app(change)])
}

fn validate(validator: &Validator, registry: &MemoryRegistry, query: &str) -> ValidatedRequest {
    let request = AuthorizationRequest::parse(query.as_bytes(), b"");
    let client = registry.find_client("app").now_or_never().unwrap().unwrap();
    validator.validate(request, client).unwrap()
}

fn asked(query: &str) -> ValidatedRequest {
    validate(&validator(), &registry(json!({})), query)
}

const QUERY: &str = "client_id=app&response_type=code&redirect_uri=https://app.example/cb&scope=read&state=x%20y";

fn sealer() -> RequestSealer {
    RequestSealer::new(SealKeys::new(KEY))
}

/// Opens as another process would.
async fn open(sealer: &RequestSealer, seal: &str) -> Result<ValidatedRequest, OpenErrorKind> {
    open_at(sealer, seal, &registry(json!({})), &validator()).await
}

async fn open_at(
    sealer: &RequestSealer,
    seal: &str,
    registry: &impl RegistrySource,
    validator: &Validator,
) -> Result<ValidatedRequest, OpenErrorKind> {
    sealer.open(seal, registry, validator).await.map_err(|error| error.kind())
}

#[tokio::test]
async fn a_request_is_opened_as_it_was_sealed() {
    let query = format!(
        "client_id=app&response_type=code&scope=write+read&state=%C3%A9%26%3D&nonce=n&response_mode=form_post\
         &code_challenge={CHALLENGE}&code_challenge_method=S256&resource=https://a.example/&resource=https://b.example/"
    );
    let request = asked(&query);
    let opened = open(&sealer(), &sealer().seal(&request).unwrap()).await.unwrap();
    assert!(opened.request() == request.request());
    assert_eq!(opened.scope(), "write read");
    assert_eq!(opened.redirect_uri(), "https://app.example/cb");
    assert!(!opened.redirect_uri_is_explicit());
    assert_eq!(opened.state(), Some("é&="));
    assert_eq!(opened.resources().collect::<Vec<_>>(), ["https://a.example/", "https://b.example/"]);
    assert!(!opened.request().is_pushed() && !opened.request().is_signed());
    // A page that is reloaded posts the same seal again.
    let seal = sealer().seal(&request).unwrap();
    assert!(open(&sealer(), &seal).await.is_ok() && open(&sealer(), &seal).await.is_ok());
}

#[test]
fn an_ordinary_request_takes_less_than_4_kib_and_fits_urls_and_forms() {
    let registry = MemoryRegistry::from_clients([Client::from_metadata(json!({
        "client_id": "app",
        "redirect_uris": ["https://photos.example/oauth/callback"],
        "scope": "*",
    }))
    .unwrap()]);
    let scopes: Vec<_> = (0..40).map(|n| format!("https://api.example/auth/scope-{n}")).collect();
    let query = format!(
        "client_id=app&response_type=code&redirect_uri=https://photos.example/oauth/callback&scope=openid+{}\
         &state={}&nonce={}&code_challenge={CHALLENGE}&code_challenge_method=S256&resource=https://api.example/mcp",
        scopes[..12].join("+"),
        "s".repeat(512),
        "n".repeat(43),
    );
    let request = validate(&validator(), &registry, &query);
    let seal = sealer().tenant("tenant").bound_to("session").seal(&request).unwrap();
    assert!(seal.len() < 4096, "{} bytes", seal.len());
    assert!(seal.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.')), "{seal}");
    let small = sealer().seal(&asked(QUERY)).unwrap();
    assert!(small.len() < 512, "{} bytes", small.len());
}

#[tokio::test]
async fn a_seal_that_was_changed_is_refused() {
    let seal = sealer().seal(&asked(QUERY)).unwrap();
    for at in 0..seal.len() {
        let mut changed = seal.clone().into_bytes();
        changed[at] = if changed[at] == b'A' { b'B' } else { b'A' };
        let changed = String::from_utf8(changed).unwrap();
        assert_eq!(open(&sealer(), &changed).await.unwrap_err(), OpenErrorKind::Invalid, "byte {at}");
        assert_eq!(open(&sealer(), &seal[..at]).await.unwrap_err(), OpenErrorKind::Invalid, "cut at {at}");
    }
    for text in ["", "v1", "v1..", "v1.AAAAAAAA.", "v2", QUERY, &seal.repeat(2), &seal.replacen("v1", "v2", 1)] {
        assert_eq!(open(&sealer(), text).await.unwrap_err(), OpenErrorKind::Invalid, "{text}");
    }
}

#[tokio::test]
async fn a_seal_is_for_one_purpose_tenant_and_user() {
    let sealer = sealer().tenant("a").bound_to("ada");
    let seal = sealer.seal(&asked(QUERY)).unwrap();
    assert!(open(&sealer, &seal).await.is_ok());
    let others = [
        sealer.clone().purpose("login"),
        sealer.clone().tenant("b"),
        sealer.clone().bound_to("grace"),
        sealer.clone().bound_to(""),
        self::sealer(),
        self::sealer().bound_to("ada"),
        self::sealer().tenant("a"),
        self::sealer().tenant("ada").bound_to("a"),
    ];
    for other in &others {
        assert_eq!(open(other, &seal).await.unwrap_err(), OpenErrorKind::Invalid, "{other:?}");
        let theirs = other.seal(&asked(QUERY)).unwrap();
        assert_eq!(open(&sealer, &theirs).await.unwrap_err(), OpenErrorKind::Invalid, "{other:?}");
    }
}

#[tokio::test]
async fn a_seal_of_one_issuer_is_unknown_to_another() {
    let seal = sealer().seal(&asked(QUERY)).unwrap();
    for policy in [Policy::rfc9700().issuer("https://other.example"), Policy::rfc9700()] {
        let other = Validator::new(policy.build().unwrap());
        let opened = open_at(&sealer(), &seal, &registry(json!({})), &other).await;
        assert_eq!(opened.unwrap_err(), OpenErrorKind::Invalid);
    }
}

#[tokio::test]
async fn a_seal_expires() {
    let short = sealer().lifetime(Duration::ZERO);
    let seal = short.seal(&asked(QUERY)).unwrap();
    assert_eq!(open(&short, &seal).await.unwrap_err(), OpenErrorKind::Invalid);
    // The one who seals decides.
    assert_eq!(open(&sealer().lifetime(Duration::from_secs(3600)), &seal).await.unwrap_err(), OpenErrorKind::Invalid);
}

#[tokio::test]
async fn keys_rotate_without_ending_logins() {
    let (old, new) = ([1; 32], [2; 32]);
    let seal = |keys: SealKeys| RequestSealer::new(keys).seal(&asked(QUERY)).unwrap();
    let steps = [SealKeys::new(old), SealKeys::new(old).older(new), SealKeys::new(new).older(old), SealKeys::new(new)];
    // While the nodes go from one step to the next, each opens what the others seal.
    for pair in steps.windows(2) {
        for (from, to) in [(&pair[0], &pair[1]), (&pair[1], &pair[0])] {
            assert!(open(&RequestSealer::new(to.clone()), &seal(from.clone())).await.is_ok(), "{from:?} {to:?}");
        }
    }
    let dropped = open(&RequestSealer::new(SealKeys::new(new)), &seal(SealKeys::new(old))).await;
    assert_eq!(dropped.unwrap_err(), OpenErrorKind::Invalid);
}

#[tokio::test]
async fn the_client_is_judged_as_it_is_now() {
    let seal = sealer().seal(&asked(QUERY)).unwrap();
    for (change, reason) in [
        (json!({ "disabled": true }), "client_disabled"),
        (json!({ "revoked": true }), "client_revoked"),
        (json!({ "expires_at": 1 }), "client_expired"),
        (json!({ "scope": "write" }), "scope_not_allowed"),
        (json!({ "redirect_uris": ["https://app.example/other"] }), "redirect_uri_not_registered"),
        (json!({ "token_endpoint_auth_method": "none" }), "code_challenge_missing"),
    ] {
        let error = sealer().open(&seal, &registry(change.clone()), &validator()).await.unwrap_err();
        assert_eq!((error.kind(), error.rejection().reason().as_str()), (OpenErrorKind::Refused, reason), "{change}");
    }
    let error = sealer().open(&seal, &MemoryRegistry::new(), &validator()).await.unwrap_err();
    assert_eq!(error.rejection().reason().as_str(), "client_unknown");
}

#[tokio::test]
async fn the_policy_is_applied_as_it_is_now() {
    let seal = sealer().seal(&asked(QUERY)).unwrap();
    let stricter = Policy::oauth21().issuer("https://login.example").build().unwrap();
    let error = sealer().open(&seal, &registry(json!({})), &Validator::new(stricter)).await.unwrap_err();
    assert_eq!(error.rejection().reason().as_str(), "code_challenge_missing");
}

#[tokio::test]
async fn nothing_is_granted_that_the_user_did_not_see() {
    let changed = |error: tower_oauth_client_validation::OpenError| {
        assert_eq!(error.kind(), OpenErrorKind::Refused);
        assert_eq!(error.rejection().reason().as_str(), "sealed_request_changed");
    };
    // The default scope grew.
    let seal = sealer().seal(&asked("client_id=app&response_type=code")).unwrap();
    let grown = registry(json!({ "scope": "read write admin" }));
    changed(sealer().open(&seal, &grown, &validator()).await.unwrap_err());
    // The only redirect URI moved.
    let moved = registry(json!({ "redirect_uris": ["https://elsewhere.example/cb"] }));
    changed(sealer().open(&seal, &moved, &validator()).await.unwrap_err());
    // A scope was withdrawn, and the policy grants what is left.
    let narrowing =
        Policy::rfc9700().issuer("https://login.example").scope_excess(ScopeExcess::Narrow).build().unwrap();
    let narrowing = Validator::new(narrowing);
    let query = "client_id=app&response_type=code&scope=read+write";
    let seal = sealer().seal(&validate(&narrowing, &registry(json!({})), query)).unwrap();
    changed(sealer().open(&seal, &registry(json!({ "scope": "read" })), &narrowing).await.unwrap_err());
}

#[tokio::test]
async fn a_registry_that_fails_is_no_answer_about_the_client() {
    let seal = sealer().seal(&asked(QUERY)).unwrap();
    let failing =
        |error: fn(&str) -> RegistryError| registry_fn(move |_: String| std::future::ready(Err(error("down"))));
    let unavailable = failing(|text| RegistryError::transient(text));
    let error = sealer().open(&seal, &unavailable, &validator()).await.unwrap_err();
    assert_eq!(error.kind(), OpenErrorKind::Unavailable);
    assert!(std::error::Error::source(&error).is_some());
    let response: Response<Bytes> = error.into_http(&Method::POST, &HeaderMap::new());
    assert_eq!(response.status(), 503);
    let fault = failing(|text| RegistryError::permanent(text));
    let error = sealer().open(&seal, &fault, &validator()).await.unwrap_err();
    let response: Response<Bytes> = error.into_http(&Method::POST, &HeaderMap::new());
    assert_eq!(response.status(), 500);
}

#[tokio::test]
async fn one_answer_says_that_a_seal_is_not_valid() {
    let seal = sealer().bound_to("ada").seal(&asked(QUERY)).unwrap();
    let expired = sealer().bound_to("ada").lifetime(Duration::ZERO).seal(&asked(QUERY)).unwrap();
    let foreign = RequestSealer::new(SealKeys::new([8; 32])).bound_to("ada").seal(&asked(QUERY)).unwrap();
    let mut answers = Vec::new();
    for (opener, seal) in [
        (sealer().bound_to("ada"), "garbage".to_owned()),
        (sealer().bound_to("ada"), seal[..seal.len() - 1].to_owned()),
        (sealer().bound_to("ada"), expired),
        (sealer().bound_to("ada"), foreign),
        (sealer().bound_to("grace"), seal.clone()),
        (sealer().bound_to("ada").purpose("login"), seal),
    ] {
        let error = opener.open(&seal, &registry(json!({})), &validator()).await.unwrap_err();
        let text = format!("{error} {error:?}");
        assert_eq!(error.rejection().error(), ErrorCode::InvalidRequest);
        let response: Response<Bytes> = error.into_http(&Method::POST, &HeaderMap::new());
        assert_eq!(
            (response.status().as_u16(), &response.headers()["cache-control"]),
            (400, &"no-store".parse().unwrap())
        );
        answers.push((text, response.into_body()));
    }
    assert!(answers.windows(2).all(|pair| pair[0] == pair[1]), "{answers:?}");
}

#[tokio::test]
async fn parameters_are_read_from_the_seal_alone() {
    let seal = sealer().seal(&asked(QUERY)).unwrap();
    let opened = open(&sealer(), &seal).await.unwrap();
    assert_eq!(opened.parameter(Parameter::State), Some("x y"));
    // Neither a query nor what a browser may add to it is a seal.
    assert_eq!(open(&sealer(), &format!("{seal}&state=z")).await.unwrap_err(), OpenErrorKind::Invalid);
}

/// A node of a server with pushed requests: what it pushes, judges and opens.
#[derive(Clone)]
struct Node {
    registry: MemoryRegistry,
    pushed: PushedRequests,
    sealer: RequestSealer,
}

impl Node {
    fn new(pushed: PushedRequests) -> Self {
        let registry =
            registry(json!({ "token_endpoint_auth_method": "none", "jwks": key_set(&["es256"], &json!({})) }));
        Self { registry, sealer: sealer().pushed_requests(pushed.clone()), pushed }
    }

    fn policy() -> Policy {
        Policy::oauth2().issuer(ISSUER).build().unwrap()
    }

    fn signed() -> SignedRequests {
        SignedRequests::builder(ISSUER).build().unwrap()
    }

    async fn push(&self, form: &str) -> Result<String, (u16, Value)> {
        let authentication =
            ClientAuthenticationLayer::new(self.registry.clone(), AuthenticationPolicy::builder().build().unwrap());
        let service = PushedRequestService::new(self.pushed.clone(), Self::policy()).signed_requests(Self::signed());
        let request = Request::post("/par").header("content-type", "application/x-www-form-urlencoded");
        let request = request.body(Full::<Bytes>::from(form.to_owned())).unwrap();
        let response = authentication.layer(service).oneshot(request).await.unwrap();
        let (status, body) = (response.status().as_u16(), response.into_body().collect().await.unwrap().to_bytes());
        let body: Value = serde_json::from_slice(&body).unwrap();
        if status == 201 { Ok(body["request_uri"].as_str().unwrap().to_owned()) } else { Err((status, body)) }
    }

    async fn ask(&self, request_uri: &str) -> Result<ValidatedRequest, String> {
        let layer = ClientValidationLayer::new(self.registry.clone())
            .policy(Self::policy())
            .pushed_requests(self.pushed.clone())
            .signed_requests(Self::signed());
        let uri = format!("/authorize?client_id=app&request_uri={request_uri}&scope=write");
        let (parts, ()) = Request::get(uri).body(()).unwrap().into_parts();
        match layer.judge(&parts, Bytes::new()).await {
            Verdict::Accepted(validated) => Ok(validated),
            Verdict::Refused(response) => {
                Err(response.extensions().get::<Rejection>().unwrap().reason().as_str().to_owned())
            }
            other => panic!("{other:?}"),
        }
    }

    async fn open(&self, seal: &str) -> ValidatedRequest {
        self.sealer.open(seal, &self.registry, &Validator::new(Self::policy())).await.unwrap()
    }
}

const ISSUER: &str = "https://login.example";
const PUSH: &str = "client_id=app&response_type=code&scope=read&state=pushed";

/// Two nodes with the same keys and the same store.
fn nodes() -> [Node; 2] {
    let store = MemoryStateStore::new();
    [store.clone(), store].map(|store| Node::new(PushedRequests::new(store)))
}

fn sealed_nodes() -> [Node; 2] {
    let used = MemoryStateStore::new();
    [used.clone(), used].map(|used| Node::new(PushedRequests::sealed(SealKeys::new(KEY), used).build().unwrap()))
}

#[tokio::test]
async fn a_pushed_request_counts_once_however_it_travels() {
    for [one, two] in [nodes(), sealed_nodes()] {
        let request_uri = one.push(PUSH).await.unwrap();
        let asked = one.ask(&request_uri).await.unwrap();
        let seal = one.sealer.seal(&asked).unwrap();
        // Reading uses nothing up.
        let (here, there) = (one.open(&seal).await, two.open(&seal).await);
        assert!(there.request().is_pushed());
        assert_eq!((there.scope(), there.state()), ("read", Some("pushed")));
        let response: Response<Bytes> = there.success([("code", "1")]).into_http(&Method::POST);
        assert!(response.headers()["location"].to_str().unwrap().contains("error=server_error"));
        there.use_up().await.unwrap();
        let response: Response<Bytes> = there.success([("code", "1")]).into_http(&Method::POST);
        assert!(response.headers()["location"].to_str().unwrap().contains("code=1"));
        for late in [here, asked] {
            assert_eq!(late.use_up().await.unwrap_err().kind(), UseUpErrorKind::Used);
        }
        assert_eq!(one.ask(&request_uri).await.unwrap_err(), "request_uri_unknown");
        let again = two.open(&seal).await;
        assert_eq!(again.use_up().await.unwrap_err().kind(), UseUpErrorKind::Used);
    }
}

#[tokio::test]
async fn of_racing_nodes_one_uses_a_sealed_request_uri_up() {
    let [one, two] = sealed_nodes();
    for _ in 0..50 {
        let request_uri = one.push(PUSH).await.unwrap();
        let asked = [one.ask(&request_uri).await.unwrap(), two.ask(&request_uri).await.unwrap()];
        let tasks = asked.map(|asked| tokio::spawn(async move { asked.use_up().await.is_ok() }));
        let [first, second] = tasks;
        assert!(first.await.unwrap() != second.await.unwrap());
    }
}

#[tokio::test]
async fn a_sealed_request_uri_is_for_its_client_tenant_and_key() {
    let [node, _] = sealed_nodes();
    let request_uri = node.push(PUSH).await.unwrap();
    let with = |builder: PushedRequestsBuilder| Node::new(builder.build().unwrap());
    let sealed = |key: [u8; 32]| PushedRequests::sealed(SealKeys::new(key), MemoryStateStore::new());
    assert!(with(sealed(KEY)).ask(&request_uri).await.is_ok());
    assert_eq!(with(sealed([9; 32])).ask(&request_uri).await.unwrap_err(), "request_uri_unknown");
    assert_eq!(with(sealed(KEY).tenant("b")).ask(&request_uri).await.unwrap_err(), "request_uri_unknown");
    let [stored, _] = nodes();
    assert_eq!(stored.ask(&request_uri).await.unwrap_err(), "request_uri_unknown");
    for changed in
        [&request_uri[..request_uri.len() - 1], &format!("{request_uri}A"), &request_uri.replacen("v1", "v2", 1)]
    {
        assert_eq!(node.ask(changed).await.unwrap_err(), "request_uri_unknown", "{changed}");
    }
    // A seal for a consent page is no request_uri, and the reverse.
    let asked = node.ask(&request_uri).await.unwrap();
    let seal = node.sealer.seal(&asked).unwrap();
    let as_uri = format!("urn:ietf:params:oauth:request_uri:{seal}");
    assert_eq!(node.ask(&as_uri).await.unwrap_err(), "request_uri_unknown");
    let as_seal = request_uri.rsplit(':').next().unwrap();
    let opened = node.sealer.open(as_seal, &node.registry, &Validator::new(Node::policy())).await;
    assert_eq!(opened.unwrap_err().kind(), OpenErrorKind::Invalid);

    let other = app(json!({ "client_id": "other", "token_endpoint_auth_method": "none" }));
    let layer = ClientValidationLayer::new(MemoryRegistry::from_clients([other]))
        .policy(Node::policy())
        .pushed_requests(node.pushed.clone());
    let uri = format!("/authorize?client_id=other&request_uri={request_uri}");
    let (parts, ()) = Request::get(uri).body(()).unwrap().into_parts();
    let Verdict::Refused(response) = layer.judge(&parts, Bytes::new()).await else { panic!("it is another client's") };
    assert_eq!(response.extensions().get::<Rejection>().unwrap().reason().as_str(), "request_uri_foreign");
}

#[tokio::test]
async fn a_sealed_request_uri_has_room_for_4_kib() {
    let [node, _] = sealed_nodes();
    let fits = format!("{PUSH}&nonce={}", "n".repeat(4000));
    assert!(node.push(&fits).await.is_ok());
    let (status, body) = node.push(&format!("{PUSH}&nonce={}", "n".repeat(4096))).await.unwrap_err();
    assert_eq!((status, &body["error"]), (413, &"invalid_request".into()));
}

#[tokio::test]
async fn a_store_of_used_ids_that_fails_issues_no_code() {
    #[derive(Clone)]
    struct Down;
    impl StateStore for Down {
        fn put_new_bounded(
            &self,
            _: &str,
            _: &[u8],
            _: Duration,
            _: StateBounds<'_>,
        ) -> BoxFuture<'_, Result<bool, StateError>> {
            std::future::ready(Err(StateError::unavailable("down"))).boxed()
        }
        fn get(&self, _: &str) -> BoxFuture<'_, Result<Option<Vec<u8>>, StateError>> {
            std::future::ready(Err(StateError::unavailable("down"))).boxed()
        }
        fn take(&self, _: &str) -> BoxFuture<'_, Result<Option<Vec<u8>>, StateError>> {
            std::future::ready(Err(StateError::unavailable("down"))).boxed()
        }
    }
    let [node, _] = sealed_nodes();
    let request_uri = node.push(PUSH).await.unwrap();
    let seal = node.sealer.seal(&node.ask(&request_uri).await.unwrap()).unwrap();
    let broken = Node::new(PushedRequests::sealed(SealKeys::new(KEY), Down).build().unwrap());
    assert_eq!(broken.ask(&request_uri).await.unwrap_err(), "request_store_unavailable");
    assert_eq!(broken.open(&seal).await.use_up().await.unwrap_err().kind(), UseUpErrorKind::Unavailable);
}

#[tokio::test]
async fn a_sealer_without_pushed_requests_opens_none() {
    let [node, _] = nodes();
    let asked = node.ask(&node.push(PUSH).await.unwrap()).await.unwrap();
    let seal = sealer().seal(&asked).unwrap();
    let error = sealer().open(&seal, &node.registry, &Validator::new(Node::policy())).await.unwrap_err();
    assert_eq!(
        (error.kind(), error.rejection().reason().as_str()),
        (OpenErrorKind::Unavailable, "request_store_fault")
    );
}

#[tokio::test]
async fn a_pushed_request_may_be_signed() {
    for [one, two] in [nodes(), sealed_nodes()] {
        let now = std::time::SystemTime::now().duration_since(std::time::SystemTime::UNIX_EPOCH).unwrap().as_secs();
        let header = json!({ "alg": "ES256", "typ": "oauth-authz-req+jwt" });
        let claims = json!({
            "iss": "app", "client_id": "app", "aud": ISSUER, "exp": now + 60,
            "response_type": "code", "scope": "read", "state": "signed",
        });
        let object = sign("es256", header.as_object().unwrap(), claims.as_object().unwrap());
        let request_uri = one.push(&format!("client_id=app&request={object}&state=beside&scope=write")).await.unwrap();
        let asked = two.ask(&request_uri).await.unwrap();
        assert!(asked.request().is_pushed() && asked.request().is_signed());
        assert_eq!((asked.state(), asked.scope()), (Some("signed"), "read"));
        // Both are carried on.
        let opened = one.open(&two.sealer.seal(&asked).unwrap()).await;
        assert!(opened.request().is_pushed() && opened.request().is_signed());
        opened.use_up().await.unwrap();

        let mut other = claims.as_object().unwrap().clone();
        other.insert("aud".to_owned(), "https://other.example".into());
        let object = sign("es256", header.as_object().unwrap(), &other);
        let (status, body) = one.push(&format!("client_id=app&request={object}")).await.unwrap_err();
        assert_eq!((status, &body["error"]), (400, &"invalid_request_object".into()));
        // A faulty parameter is refused, not left out.
        let mut faulty = claims.as_object().unwrap().clone();
        faulty.insert("state".to_owned(), "a\u{0}b".into());
        let object = sign("es256", header.as_object().unwrap(), &faulty);
        let (status, body) = one.push(&format!("client_id=app&request={object}")).await.unwrap_err();
        assert_eq!((status, &body["error"]), (400, &"invalid_request".into()));
        let (status, body) = one.push(&format!("client_id=app&request={object}&request_uri=urn:x")).await.unwrap_err();
        assert_eq!((status, &body["error"]), (400, &"invalid_request".into()));
    }
}

/// Other client authentication may let a repeated `client_id` through.
#[tokio::test]
async fn a_repeated_client_id_beside_a_signed_request_is_refused() {
    let [node, _] = nodes();
    let client = node.registry.get("app");
    let service = PushedRequestService::new(node.pushed.clone(), Node::policy())
        .signed_requests(Node::signed())
        .client_from(move |_| std::future::ready(Ok(client.clone())));
    let now = std::time::SystemTime::now().duration_since(std::time::SystemTime::UNIX_EPOCH).unwrap().as_secs();
    let claims = json!({
        "iss": "app", "client_id": "app", "aud": ISSUER, "exp": now + 60, "response_type": "code",
    });
    let object = sign("es256", json!({ "alg": "ES256" }).as_object().unwrap(), claims.as_object().unwrap());
    let status = async |form: String| {
        let request = Request::post("/par").header("content-type", "application/x-www-form-urlencoded");
        let request = request.body(Full::<Bytes>::from(form)).unwrap();
        service.clone().oneshot(request).await.unwrap().status().as_u16()
    };
    assert_eq!(status(format!("client_id=app&request={object}")).await, 201);
    assert_eq!(status(format!("client_id=app&client_id=other&request={object}")).await, 400);
}

#[tokio::test]
async fn a_request_of_one_tenant_is_unknown_to_another() {
    let tenants = ["a", "b"].map(|name| {
        let pushed = PushedRequests::sealed(SealKeys::new(KEY), MemoryStateStore::new()).tenant(name).build().unwrap();
        (
            Node::new(pushed.clone()),
            Tenant::new(registry(json!({ "token_endpoint_auth_method": "none" })))
                .policy(Node::policy())
                .pushed_requests(pushed),
        )
    });
    let [(node, a), (_, b)] = tenants;
    let request_uri = node.push(PUSH).await.unwrap();
    let layer = ClientValidationLayer::for_each_tenant(move |request| match request.uri.host()? {
        "a" => Some(a.clone()),
        _ => Some(b.clone()),
    });
    for (host, is_known) in [("a", true), ("b", false)] {
        let uri = format!("http://{host}/authorize?client_id=app&request_uri={request_uri}");
        let (parts, ()) = Request::get(uri).body(()).unwrap().into_parts();
        assert_eq!(matches!(layer.judge(&parts, Bytes::new()).await, Verdict::Accepted(_)), is_known, "{host}");
    }
}

#[test]
fn a_tenant_is_for_sealed_requests_only() {
    let error = PushedRequests::builder(MemoryStateStore::new()).tenant("a").build().unwrap_err();
    assert_eq!(error.to_string(), "tenant: is for sealed requests; prefix the store instead");
}
