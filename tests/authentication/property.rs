//! No request without a right credential reaches the inner service, whatever its bytes.

use std::cell::Cell;
use std::sync::{Arc, LazyLock};
use std::time::SystemTime;

use base64::Engine;
use base64::alphabet::STANDARD;
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};
use base64::prelude::{BASE64_STANDARD, BASE64_URL_SAFE_NO_PAD};
use bytes::Bytes;
use http::{HeaderValue, Request, Response};
use http_body_util::{BodyExt, Full};
use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::{Index, select};
use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use tower::{ServiceBuilder, ServiceExt};
use tower_oauth_client_validation::{
    AuthenticatedClient, AuthenticationPolicy, Client, ClientAuthenticationLayer, MemoryRegistry, MemoryStateStore,
};
use url::form_urlencoded;

use super::{FORM, ISSUER, SECRET_SHA256, object, phc};
use crate::signing::{key_set, sign};

const JWT_BEARER: &str = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer";

const IDS: [&str; 9] = ["public", "basic", "post", "hashed", "rotating", "no-secret", "disabled", "jwt", "nobody"];
const SECRETS: [&str; 5] = ["secret", "new secret%", "wrong", "", SECRET_SHA256];

/// Who has which secret, and the method that they registered.
const RIGHT_SECRETS: [(&str, &str, &str); 5] = [
    ("basic", "secret", "client_secret_basic"),
    ("post", "secret", "client_secret_post"),
    ("hashed", "secret", "client_secret_basic"),
    ("rotating", "new secret%", "client_secret_basic"),
    ("rotating", "secret", "client_secret_basic"),
];

static CLIENTS: LazyLock<MemoryRegistry> = LazyLock::new(|| {
    let new_digest = Sha256::digest("new secret%").iter().map(|byte| format!("{byte:02x}")).collect::<String>();
    let keys = key_set(&["es256"], &json!({}));
    let clients = [
        json!({ "client_id": "public", "token_endpoint_auth_method": "none" }),
        json!({ "client_id": "basic", "client_secret_sha256": SECRET_SHA256 }),
        json!({ "client_id": "post", "token_endpoint_auth_method": "client_secret_post", "client_secret_sha256": SECRET_SHA256 }),
        json!({ "client_id": "hashed", "client_secret_hash": phc() }),
        json!({ "client_id": "rotating", "client_secret_sha256": new_digest, "previous_client_secret_sha256": SECRET_SHA256 }),
        json!({ "client_id": "no-secret" }),
        json!({ "client_id": "disabled", "client_secret_sha256": SECRET_SHA256, "disabled": true }),
        json!({ "client_id": "jwt", "token_endpoint_auth_method": "private_key_jwt", "jwks": keys }),
    ];
    MemoryRegistry::from_clients(clients.map(|client| Client::from_metadata(client).unwrap()))
});

/// Assertions of the client `jwt`; the first ones are right.
static ASSERTIONS: LazyLock<Vec<String>> = LazyLock::new(|| {
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap().as_secs();
    let signed = |key: &str, algorithm: &str, change: Value| {
        let mut claims =
            object(&json!({ "iss": "jwt", "sub": "jwt", "aud": ISSUER, "exp": now + 500, "iat": now, "jti": "one" }));
        claims.extend(object(&change));
        sign(key, &object(&json!({ "alg": algorithm })), &claims)
    };
    vec![
        signed("es256", "ES256", json!({})),
        signed("es256", "ES256", json!({ "jti": "another" })),
        signed("other", "ES256", json!({})),
        signed("es256", "HS256", json!({})),
        signed("es256", "none", json!({})),
        signed("es256", "ES256", json!({ "aud": "https://other.example" })),
        signed("es256", "ES256", json!({ "aud": [ISSUER] })),
        signed("es256", "ES256", json!({ "exp": now - 500 })),
        signed("es256", "ES256", json!({ "exp": now + 5_000 })),
        signed("es256", "ES256", json!({ "nbf": now + 5_000 })),
        signed("es256", "ES256", json!({ "iss": "basic" })),
        signed("es256", "ES256", json!({ "iss": "basic", "sub": "basic" })),
        signed("es256", "ES256", json!({ "iss": "nobody", "sub": "nobody" })),
        signed("es256", "ES256", json!({ "jti": "" })),
        "a.b.c".to_owned(),
    ]
});
const RIGHT_ASSERTIONS: usize = 2;

#[derive(Clone, Debug)]
struct Sent {
    method: &'static str,
    query: String,
    content_types: Vec<&'static str>,
    authorization: Vec<Vec<u8>>,
    body: Vec<u8>,
}

impl Sent {
    fn form(pairs: &[(&str, &str)]) -> Self {
        let body = form_urlencoded::Serializer::new(String::new()).extend_pairs(pairs).finish().into_bytes();
        Self { method: "POST", query: String::new(), content_types: vec![FORM], authorization: Vec::new(), body }
    }

    /// The requests that real clients send.
    fn real() -> Vec<Self> {
        let mut real =
            vec![Self::form(&[("client_id", "public"), ("grant_type", "authorization_code"), ("code", "x")])];
        for (id, secret, _) in RIGHT_SECRETS {
            real.push(Self::form(&[("client_id", id), ("client_secret", secret), ("grant_type", "refresh_token")]));
            let authorization = vec![basic(id, secret), basic(&encode(id), &encode(secret))];
            real.extend(authorization.into_iter().map(|line| Self {
                authorization: vec![line],
                ..Self::form(&[("grant_type", "refresh_token"), ("refresh_token", "x")])
            }));
        }
        for assertion in &ASSERTIONS[..RIGHT_ASSERTIONS] {
            let asserted = [("client_assertion_type", JWT_BEARER), ("client_assertion", assertion)];
            real.push(Self::form(&asserted));
            real.push(Self::form(&[&[("client_id", "jwt")], &asserted[..]].concat()));
        }
        real
    }

    fn request(&self) -> Option<Request<Full<Bytes>>> {
        let mut request = Request::builder().method(self.method).uri(format!("/token?{}", self.query));
        for content_type in &self.content_types {
            request = request.header("content-type", *content_type);
        }
        for line in &self.authorization {
            request = request.header("authorization", HeaderValue::from_bytes(line).ok()?);
        }
        request.body(Full::from(self.body.clone())).ok()
    }

    fn pieces(&self) -> Vec<Vec<u8>> {
        self.body.split(|byte| *byte == b'&').map(<[u8]>::to_vec).collect()
    }

    fn with_pieces(self, pieces: &[Vec<u8>]) -> Self {
        Self { body: pieces.join(&b'&'), ..self }
    }
}

fn encode(text: &str) -> String {
    form_urlencoded::byte_serialize(text.as_bytes()).collect()
}

fn basic(id: &str, secret: &str) -> Vec<u8> {
    format!("Basic {}", BASE64_STANDARD.encode(format!("{id}:{secret}"))).into_bytes()
}

/// What is changed in a request.
#[derive(Clone, Debug)]
enum Change {
    Method(&'static str),
    Query(String),
    ContentTypes(Vec<&'static str>),
    Authorization(Vec<u8>),
    NoAuthorization,
    AuthorizationByte(Index, u8),
    Append(String),
    Replace(Index, String),
    Remove(Index),
    Repeat(Index),
    Byte(Index, u8),
    Insert(Index, Vec<u8>),
    Cut(Index, Index),
    Body(Vec<u8>),
    /// Header, claims and signature of three assertions.
    Splice([Index; 3]),
    /// The assertion's claims say something else, and its signature stays.
    Claims(&'static str, &'static str),
}

impl Change {
    fn apply(self, mut sent: Sent) -> Sent {
        let place = |index: Index, length: usize| index.index(length + 1);
        match self {
            Self::Method(method) => sent.method = method,
            Self::Query(query) => sent.query = query,
            Self::ContentTypes(content_types) => sent.content_types = content_types,
            Self::Authorization(line) => sent.authorization.push(line),
            Self::NoAuthorization => sent.authorization.clear(),
            Self::AuthorizationByte(at, byte) => {
                if let Some(line) = sent.authorization.first_mut().filter(|line| !line.is_empty()) {
                    let at = at.index(line.len());
                    line[at] = byte;
                }
            }
            Self::Append(piece) => sent.body = [&sent.body, &b"&"[..], piece.as_bytes()].concat(),
            Self::Replace(at, piece) => {
                let mut pieces = sent.pieces();
                let at = at.index(pieces.len());
                pieces[at] = piece.into_bytes();
                return sent.with_pieces(&pieces);
            }
            Self::Remove(at) => {
                let mut pieces = sent.pieces();
                pieces.remove(at.index(pieces.len()));
                return sent.with_pieces(&pieces);
            }
            Self::Repeat(at) => {
                let mut pieces = sent.pieces();
                pieces.push(pieces[at.index(pieces.len())].clone());
                return sent.with_pieces(&pieces);
            }
            Self::Byte(at, byte) => {
                if !sent.body.is_empty() {
                    let at = at.index(sent.body.len());
                    sent.body[at] = byte;
                }
            }
            Self::Insert(at, bytes) => {
                let at = place(at, sent.body.len());
                sent.body.splice(at..at, bytes);
            }
            Self::Cut(from, to) => {
                let (from, to) = (place(from, sent.body.len()), place(to, sent.body.len()));
                sent.body.drain(from.min(to)..from.max(to));
            }
            Self::Body(body) => sent.body = body,
            Self::Splice(from) => {
                let parts = [0, 1, 2].map(|part| {
                    let assertion = &ASSERTIONS[from[part].index(ASSERTIONS.len())];
                    assertion.split('.').nth(part).unwrap_or_default().to_owned()
                });
                return Self::Append(format!("client_assertion={}", parts.join(".")))
                    .apply(without(sent, "client_assertion"));
            }
            Self::Claims(name, value) => {
                let mut parts: Vec<_> = ASSERTIONS[0].split('.').map(str::to_owned).collect();
                let mut claims: Value =
                    serde_json::from_slice(&BASE64_URL_SAFE_NO_PAD.decode(&parts[1]).unwrap()).unwrap();
                claims[name] = value.into();
                parts[1] = BASE64_URL_SAFE_NO_PAD.encode(claims.to_string());
                return Self::Append(format!("client_assertion={}", parts.join(".")))
                    .apply(without(sent, "client_assertion"));
            }
        }
        sent
    }
}

/// The request without the pieces of this name.
fn without(sent: Sent, name: &str) -> Sent {
    let mut pieces = sent.pieces();
    pieces.retain(|piece| piece.split(|byte| *byte == b'=').next() != Some(name.as_bytes()));
    sent.with_pieces(&pieces)
}

fn piece() -> impl Strategy<Value = String> {
    let named = |name: &'static str, values: Vec<String>| {
        select(values).prop_map(move |value| format!("{name}={}", encode(&value))).boxed()
    };
    let owned = |values: &[&str]| values.iter().map(|value| (*value).to_owned()).collect::<Vec<_>>();
    prop_oneof![
        3 => named("client_id", owned(&IDS)),
        3 => named("client_secret", owned(&SECRETS)),
        3 => named("client_assertion", ASSERTIONS.clone()),
        2 => named("client_assertion_type", owned(&[JWT_BEARER, "x", ""])),
        1 => select(owned(&["client%5Fid=basic", "client_id=public%00", "client_secre%74=secret", "Client_Id=public"])),
        1 => select(owned(&["x=%zz", "code=%ff", "resource=a", "client_id", "", "=", "client_id=%70ublic"])),
    ]
}

fn authorization() -> impl Strategy<Value = Vec<u8>> {
    let odd: Vec<Vec<u8>> =
        ["Bearer xyz", "Basic", "Basic ", "basic YmFzaWM6c2VjcmV0", "Basic  YmFzaWM6c2VjcmV0 ", "Basic !!!", "Basic ="]
            .map(|line| line.as_bytes().to_vec())
            .into();
    prop_oneof![
        4 => (select(&IDS[..]), select(&SECRETS[..])).prop_map(|(id, secret)| basic(id, secret)),
        2 => (select(&IDS[..]), select(&SECRETS[..])).prop_map(|(id, secret)| basic(&encode(id), &encode(secret))),
        1 => select(odd),
        1 => vec(any::<u8>(), 0..24),
    ]
}

fn change() -> impl Strategy<Value = Change> {
    prop_oneof![
        1 => select(&["GET", "HEAD", "PUT", "post", "OPTIONS"][..]).prop_map(Change::Method),
        1 => piece().prop_map(Change::Query),
        1 => select(vec![vec![], vec![FORM, FORM], vec!["application/json"], vec!["APPLICATION/x-www-form-urlencoded;x=y"]])
            .prop_map(Change::ContentTypes),
        3 => authorization().prop_map(Change::Authorization),
        2 => Just(Change::NoAuthorization),
        2 => (any::<Index>(), any::<u8>()).prop_map(|(at, byte)| Change::AuthorizationByte(at, byte)),
        4 => piece().prop_map(Change::Append),
        4 => (any::<Index>(), piece()).prop_map(|(at, piece)| Change::Replace(at, piece)),
        2 => any::<Index>().prop_map(Change::Remove),
        1 => any::<Index>().prop_map(Change::Repeat),
        3 => (any::<Index>(), any::<u8>()).prop_map(|(at, byte)| Change::Byte(at, byte)),
        2 => (any::<Index>(), vec(any::<u8>(), 1..4)).prop_map(|(at, bytes)| Change::Insert(at, bytes)),
        1 => (any::<Index>(), any::<Index>()).prop_map(|(from, to)| Change::Cut(from, to)),
        1 => vec(any::<u8>(), 0..64).prop_map(Change::Body),
        2 => any::<[Index; 3]>().prop_map(Change::Splice),
        1 => (select(&["sub", "iss", "aud", "jti", "exp"][..]), select(&["basic", "public", ISSUER][..]))
            .prop_map(|(name, value)| Change::Claims(name, value)),
    ]
}

fn sent() -> impl Strategy<Value = Sent> {
    (select(Sent::real()), vec(change(), 0..4))
        .prop_map(|(sent, changes)| changes.into_iter().fold(sent, |sent, change| change.apply(sent)))
}

/// The client and the method that a request proves, by what this test knows of the credentials.
fn proven(sent: &Sent, strict: bool) -> Option<(String, &'static str)> {
    let is_form = |content_type: &str| content_type.to_lowercase().split(';').next() == Some(FORM);
    let is_read = sent.method == "POST" && matches!(sent.content_types[..], [only] if is_form(only));
    let in_query = form_urlencoded::parse(sent.query.as_bytes()).any(|(name, _)| {
        ["client_id", "client_secret", "client_assertion", "client_assertion_type", "code"].contains(&&*name)
    });
    let form: Vec<(String, String)> = form_urlencoded::parse(&sent.body).into_owned().collect();
    let repeats = |name: &str| form.iter().filter(|(other, _)| other == name).count() > 1;
    if !is_read || in_query || form.iter().any(|(name, _)| name != "resource" && repeats(name)) {
        return None;
    }
    let given =
        |name: &str| form.iter().find(|(other, value)| other == name && !value.is_empty()).map(|(_, value)| &**value);
    let id = given("client_id");
    let secret = given("client_secret");
    let asserts = given("client_assertion").is_some() || given("client_assertion_type").is_some();
    let has_secret = |id: &str, secret: &str, method: &str| {
        RIGHT_SECRETS
            .iter()
            .any(|(known, right, registered)| (*known, *right) == (id, secret) && (!strict || *registered == method))
    };
    match (&sent.authorization[..], secret, asserts) {
        ([], None, false) => (id == Some("public")).then(|| ("public".to_owned(), "none")),
        ([], Some(secret), false) => {
            let id = id.filter(|id| has_secret(id, secret, "client_secret_post"))?;
            Some((id.to_owned(), "client_secret_post"))
        }
        ([], None, true) => {
            let is_right = given("client_assertion_type") == Some(JWT_BEARER)
                && ASSERTIONS[..RIGHT_ASSERTIONS].iter().any(|right| given("client_assertion") == Some(right));
            (is_right && id.is_none_or(|id| id == "jwt")).then(|| ("jwt".to_owned(), "private_key_jwt"))
        }
        ([line], None, false) => {
            let (scheme, encoded) = std::str::from_utf8(line).ok()?.split_once(' ')?;
            let lenient = GeneralPurpose::new(
                &STANDARD,
                GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent),
            );
            let credentials = String::from_utf8(lenient.decode(encoded.trim_matches(' ')).ok()?).ok()?;
            let (raw_id, raw_secret) = credentials.split_once(':').filter(|_| scheme.eq_ignore_ascii_case("basic"))?;
            let decode = |half: &str| {
                let pair = form_urlencoded::parse(half.as_bytes()).next();
                pair.filter(|_| !half.contains(['&', '='])).map(|(name, _)| name.into_owned()).unwrap_or_default()
            };
            let ids = [raw_id.to_owned(), decode(raw_id)];
            let secrets = [raw_secret.to_owned(), decode(raw_secret)];
            let is_right = |id: &&String| secrets.iter().any(|secret| has_secret(id, secret, "client_secret_basic"));
            let proven = ids.iter().find(is_right)?;
            id.is_none_or(|id| id == proven).then(|| (proven.clone(), "client_secret_basic"))
        }
        _ => None,
    }
}

/// What reached the inner service when the request was sent twice: the client, the method and the body.
type Reached = [Option<(String, &'static str, Bytes)>; 2];

async fn send_twice(sent: &Sent, strict: bool) -> Option<Reached> {
    sent.request()?;
    let policy = AuthenticationPolicy::builder()
        .issuer(ISSUER)
        .replay_store(Arc::new(MemoryStateStore::new()))
        .strict_secret_methods(strict)
        .build()
        .unwrap();
    let layer = ClientAuthenticationLayer::new(CLIENTS.clone(), policy);
    let service = ServiceBuilder::new().layer(layer).service_fn(|request: Request<Full<Bytes>>| async move {
        let client = request.extensions().get::<AuthenticatedClient>().cloned();
        let mut response = Response::new(request.into_body());
        response.extensions_mut().insert(Inner(client));
        Ok::<_, std::convert::Infallible>(response)
    });
    let mut reached = [None, None];
    for reached in &mut reached {
        let (head, body) = service.clone().oneshot(sent.request()?).await.unwrap().into_parts();
        let body = body.collect().await.unwrap().to_bytes();
        if let Some(Inner(client)) = head.extensions.get() {
            let client = client.as_ref().expect("a request reaches the inner service with its client");
            *reached = Some((client.client_id().to_owned(), client.method().as_str(), body));
        } else {
            assert!(head.status.is_client_error(), "{}", head.status);
        }
    }
    Some(reached)
}

/// Marks an answer of the inner service.
#[derive(Clone)]
struct Inner(Option<AuthenticatedClient>);

fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_current_thread().build().unwrap()
}

#[test]
fn whatever_the_bytes_only_a_right_credential_reaches_the_inner_service() {
    let (cases, passed) = (Cell::new(0_u32), Cell::new(0_u32));
    let runtime = runtime();
    let mut runner = proptest::test_runner::TestRunner::new(ProptestConfig {
        cases: 4_000,
        source_file: Some(file!()),
        ..ProptestConfig::default()
    });
    runner
        .run(&(sent(), any::<bool>()), |(sent, strict)| {
            let Some([first, second]) = runtime.block_on(send_twice(&sent, strict)) else {
                return Ok(());
            };
            cases.set(cases.get() + 1);
            if let Some((id, method, body)) = &first {
                passed.set(passed.get() + 1);
                prop_assert_eq!(Some((id.clone(), *method)), proven(&sent, strict));
                prop_assert_eq!(body, &sent.body);
            }
            if let Some((_, method, _)) = &second {
                prop_assert_ne!(*method, "private_key_jwt", "an assertion counts once");
                prop_assert_eq!(&second, &first);
            }
            Ok(())
        })
        .unwrap();
    // Otherwise the generator tests little.
    let share = passed.get() * 100 / cases.get();
    assert!((20..80).contains(&share), "{share}% reach the inner service");
}

#[test]
fn requests_of_real_clients_reach_the_inner_service() {
    let runtime = runtime();
    for sent in Sent::real() {
        let [first, _] = runtime.block_on(send_twice(&sent, false)).unwrap();
        let (id, method, _) = first.unwrap_or_else(|| panic!("{sent:?} is refused"));
        assert_eq!(Some((id, method)), proven(&sent, false));
    }
}
