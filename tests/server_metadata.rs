//! The server metadata matches what is enforced.

use bytes::Bytes;
use http::{Request, Response};
use http_body_util::Full;
use serde_json::{Map, Value, json};
use tower::{Layer, ServiceExt};
use tower_oauth_client_validation::{
    Client, ClientValidationLayer, GrantTypes, MemoryRegistry, Policy, RequestObjects, ResponseType, ResponseTypes,
    Scope, server_metadata,
};

const CHALLENGE: &str = "E9Melhoa2OwvFrEMTJguCHaoeK1t8URWbuGJSstw-cM";

/// Whether a request of a client that may do everything gets through.
async fn is_taken(policy: &Policy, query: &str) -> bool {
    let client = Client::builder("all")
        .redirect_uri("https://app.example/cb")
        .scope("*")
        .response_types(ALL_TYPES.iter().filter_map(|name| ResponseType::parse(name)).collect())
        .grant_types(GrantTypes::AUTHORIZATION_CODE.with(GrantTypes::IMPLICIT))
        .build()
        .unwrap();
    let service = ClientValidationLayer::new(MemoryRegistry::from_clients([client])).policy(policy.clone()).layer(
        tower::service_fn(|_: Request<Full<Bytes>>| async {
            Ok::<_, std::convert::Infallible>(Response::new(Full::<Bytes>::default()))
        }),
    );
    let uri = format!("/authorize?client_id=all&{query}");
    service.oneshot(Request::get(uri).body(Full::default()).unwrap()).await.unwrap().status() == 200
}

const ALL_TYPES: [&str; 8] =
    ["code", "id_token", "token", "code id_token", "code token", "id_token token", "code id_token token", "none"];

fn announces(document: &Map<String, Value>, member: &str, value: &str) -> bool {
    document[member].as_array().unwrap().iter().any(|announced| announced == value)
}

fn policies() -> Vec<Policy> {
    let types = |names: &[&str]| names.iter().filter_map(|name| ResponseType::parse(name)).collect::<ResponseTypes>();
    let policies = [
        Policy::oauth2().supported_scopes("openid read"),
        Policy::oauth21().supported_scopes("openid read").issuer("https://as.example"),
        Policy::mcp().supported_scopes("openid read"),
        Policy::oauth2().supported_scopes("openid read").plain_pkce(true).response_types(types(&ALL_TYPES)),
        Policy::oauth2().supported_scopes("openid read").response_types(types(&["id_token", "id_token token"])),
        Policy::oauth2().supported_scopes("openid read").request_objects(RequestObjects::Forward),
    ];
    policies.map(|policy| policy.build().unwrap()).to_vec()
}

#[tokio::test]
async fn what_is_announced_is_what_is_enforced() {
    for policy in policies() {
        let document = server_metadata(&policy).build();
        let first = document["response_types_supported"][0].as_str().unwrap().replace(' ', "+");
        let pkce = format!("code_challenge={CHALLENGE}&code_challenge_method=S256");
        for response_type in ALL_TYPES {
            let query = format!("response_type={}&{pkce}", response_type.replace(' ', "+"));
            let announced = announces(&document, "response_types_supported", response_type);
            assert_eq!(is_taken(&policy, &query).await, announced, "{response_type} {document:?}");
        }
        for mode in ["query", "fragment", "form_post", "web_message", "jwt"] {
            let mut taken = false;
            for response_type in ALL_TYPES {
                let query = format!("response_type={}&response_mode={mode}&{pkce}", response_type.replace(' ', "+"));
                taken |= is_taken(&policy, &query).await;
            }
            assert_eq!(taken, announces(&document, "response_modes_supported", mode), "{mode} {document:?}");
        }
        for scope in ["openid", "read", "admin", "*"] {
            let query = format!("response_type={first}&scope={scope}&{pkce}");
            let announced = announces(&document, "scopes_supported", scope);
            assert_eq!(is_taken(&policy, &query).await, announced, "{scope} {document:?}");
        }
        for method in ["S256", "plain", "S512"] {
            let query = format!("response_type={first}&code_challenge={CHALLENGE}&code_challenge_method={method}");
            let announced = announces(&document, "code_challenge_methods_supported", method);
            assert_eq!(is_taken(&policy, &query).await, announced, "{method} {document:?}");
        }
        for (member, parameter) in
            [("request_parameter_supported", "request"), ("request_uri_parameter_supported", "request_uri")]
        {
            let query = format!("response_type={first}&{parameter}=urn:x&{pkce}");
            let refused = document.get(member) == Some(&json!(false));
            assert_eq!(is_taken(&policy, &query).await, !refused, "{parameter} {document:?}");
        }
    }
}

#[tokio::test]
async fn iss_is_announced_when_it_is_sent() {
    for policy in [Policy::oauth2(), Policy::oauth2().issuer("https://as.example")] {
        let policy = policy.build().unwrap();
        let document = server_metadata(&policy).build();
        let service = ClientValidationLayer::new(MemoryRegistry::from_clients([Client::builder("app")
            .redirect_uri("https://app.example/cb")
            .build()
            .unwrap()]))
        .policy(policy)
        .layer(tower::service_fn(|_: Request<Full<Bytes>>| async {
            Ok::<_, std::convert::Infallible>(Response::new(Full::<Bytes>::default()))
        }));
        let request = Request::get("/authorize?client_id=app").body(Full::default()).unwrap();
        let answer = service.oneshot(request).await.unwrap();
        let location = answer.headers()["location"].to_str().unwrap();
        let sent = url::Url::parse(location)
            .unwrap()
            .query_pairs()
            .find(|(name, _)| name == "iss")
            .map(|(_, value)| value.into_owned());
        assert_eq!(document["authorization_response_iss_parameter_supported"], sent.is_some());
        assert_eq!(document.get("issuer").and_then(Value::as_str), sent.as_deref());
    }
}

#[test]
fn scopes_are_those_that_every_source_grants() {
    let scope = |text: &str| Scope::parse(text).unwrap();
    let supporting = |scopes: &str| Policy::oauth2().supported_scopes(scopes).build().unwrap();
    let any = server_metadata(&Policy::default());
    assert!(!any.clone().build().contains_key("scopes_supported"));
    assert_eq!(any.grantable_scopes(&scope("read write")).build()["scopes_supported"], json!(["read", "write"]));
    let listed = server_metadata(&supporting("openid read admin"));
    let listed = listed.grantable_scopes(&scope("read openid write"));
    assert_eq!(listed.clone().build()["scopes_supported"], json!(["openid", "read"]));
    assert_eq!(listed.grantable_scopes(&scope("read")).build()["scopes_supported"], json!(["read"]));
    let all = server_metadata(&supporting("*"));
    assert!(!all.build().contains_key("scopes_supported"));
}

#[test]
fn endpoints_and_sources() {
    let document = server_metadata(&Policy::default())
        .authorization_endpoint("https://as.example/authorize")
        .token_endpoint("https://as.example/token")
        .registration_endpoint("https://as.example/register")
        .token_endpoint_auth_methods(["none", "client_secret_post"])
        .metadata_documents(false)
        .member("grant_types_supported", vec!["authorization_code"])
        .build();
    assert_eq!(document["authorization_endpoint"], "https://as.example/authorize");
    assert_eq!(document["token_endpoint"], "https://as.example/token");
    assert_eq!(document["registration_endpoint"], "https://as.example/register");
    assert_eq!(document["token_endpoint_auth_methods_supported"], json!(["none", "client_secret_post"]));
    assert_eq!(document["client_id_metadata_document_supported"], false);
    assert_eq!(document["grant_types_supported"], json!(["authorization_code"]));
}

#[cfg(feature = "client-authentication")]
#[test]
fn methods_and_algorithms_are_those_of_the_policy() {
    use tower_oauth_client_validation::{
        AuthenticationMethod, AuthenticationPolicy, MemoryStateStore, SigningAlgorithm,
    };

    let policy = AuthenticationPolicy::builder()
        .methods([AuthenticationMethod::None, AuthenticationMethod::PrivateKeyJwt])
        .issuer("https://as.example")
        .replay_store(std::sync::Arc::new(MemoryStateStore::new()))
        .signing_algorithms([SigningAlgorithm::Es256])
        .build()
        .unwrap();
    let metadata = server_metadata(&Policy::default()).client_authentication(&policy);
    let document = metadata.clone().revocation_endpoint("https://as.example/revoke").build();
    for endpoint in ["token_endpoint", "revocation_endpoint"] {
        let methods = &document[&format!("{endpoint}_auth_methods_supported")];
        assert_eq!(methods, &json!(["none", "private_key_jwt"]), "{endpoint}");
        assert_eq!(document[&format!("{endpoint}_auth_signing_alg_values_supported")], json!(["ES256"]), "{endpoint}");
    }
    assert!(!metadata.build().contains_key("revocation_endpoint_auth_methods_supported"));
}
