//! Requests that are sealed, and opened by another process.

use std::time::Duration;

use bytes::Bytes;
use futures::FutureExt;
use http::{HeaderMap, Method, Response};
use serde_json::{Value, json};
use tower_oauth_client_validation::{
    AuthorizationRequest, Client, ErrorCode, MemoryRegistry, OpenErrorKind, Parameter, Policy, RegistryError,
    RegistrySource, RequestSealer, ScopeExcess, SealKeys, ValidatedRequest, Validator, registry_fn,
};

const KEY: [u8; 32] = [7; 32];
const CHALLENGE: &str = "E9Melhoa2OwvFrEMTJguCHaoeK1t8URWbuGJSstw-cM";

fn validator() -> Validator {
    Validator::new(Policy::rfc9700().issuer("https://login.example").build().unwrap())
}

fn app(change: Value) -> Client {
    let mut client =
        json!({ "client_id": "app", "redirect_uris": ["https://app.example/cb"], "scope": "read write" });
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
    let steps =
        [SealKeys::new(old), SealKeys::new(old).older(new), SealKeys::new(new).older(old), SealKeys::new(new)];
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
    let failing = |error: fn(&str) -> RegistryError| registry_fn(move |_: &str| std::future::ready(Err(error("down"))));
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
        assert_eq!((response.status().as_u16(), &response.headers()["cache-control"]), (400, &"no-store".parse().unwrap()));
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
