//! Extension parameters and OpenID Connect, beyond what the vectors say.

use std::sync::Arc;

use bytes::Bytes;
use futures::executor::block_on;
use http::{Request, Response};
use http_body_util::Full;
use serde_json::json;
use tower::{BoxError, Layer, ServiceExt, service_fn};
use tower_oauth_client_validation::{
    AuthorizationRequest, Client, ClientValidationLayer, Policy, PolicyBuilder, Prompt, Reason, Tenant,
    ValidatedRequest, Validator, Verdict, server_metadata,
};

use crate::fixture::{self, ACCEPTED, client, registry};

fn validator(policy: PolicyBuilder) -> Validator {
    Validator::new(policy.build().unwrap())
}

fn validate(validator: &Validator, request: AuthorizationRequest) -> Result<ValidatedRequest, Reason> {
    validator.validate(request, Some(Arc::new(client()))).map_err(|rejection| rejection.reason())
}

#[test]
fn a_request_read_without_the_declared_parameters_is_refused_by_the_server() {
    let strict = validator(Policy::oauth2().parameters(["prompt", "audience"]));
    let query = format!("{ACCEPTED}&prompt=none");
    for request in [
        AuthorizationRequest::parse(query.as_bytes(), b""),
        validator(Policy::oauth2().parameters(["prompt"])).parse(query.as_bytes(), b""),
    ] {
        let rejection = strict.client_id(&request).unwrap_err();
        assert_eq!((rejection.reason(), rejection.error().as_str()), (Reason::EXTENSIONS_NOT_READ, "server_error"));
        assert_eq!(validate(&strict, request).unwrap_err(), Reason::EXTENSIONS_NOT_READ);
    }
}

#[test]
fn a_request_read_for_another_policy_with_the_same_parameters_is_judged() {
    let other = validator(Policy::oauth21().parameters(["audience", "prompt", "tenant"]));
    let request = other.parse(format!("{ACCEPTED}&prompt=none").as_bytes(), b"");
    let validated = validate(&validator(Policy::oauth2().parameters(["prompt"])), request.clone()).unwrap();
    assert_eq!(validated.extension("prompt"), Some("none"));
    assert!(validate(&validator(Policy::oauth2()), request).is_ok());
}

#[test]
fn requests_compare_and_print_their_declared_parameters() {
    let validator = validator(Policy::oauth2().parameters(["login_hint", "audience"]));
    let parse = |query: &str| validator.parse(query.as_bytes(), b"");
    assert_eq!(parse("client_id=a&login_hint=x"), parse("login_hint=%78&client_id=a&other=1"));
    assert_ne!(parse("client_id=a&login_hint=x"), parse("client_id=a&login_hint=y"));
    assert_ne!(parse("client_id=a&login_hint=x"), parse("client_id=a"));
    let shown = format!("{:?}", parse("client_id=a&login_hint=secret&other=1"));
    assert_eq!(shown, r#"AuthorizationRequest([ClientId], ["login_hint"])"#);
}

#[test]
fn a_query_written_from_a_request_has_its_declared_parameters() {
    let validator = validator(Policy::oauth2().openid());
    let request = validator.parse(b"client_id=a&resource=urn:1&resource=urn:2&login_hint=a%26b&prompt=&other=1", b"");
    assert_eq!(request.to_query(), "client_id=a&resource=urn%3A1&resource=urn%3A2&login_hint=a%26b");
    assert_eq!(validator.parse(request.to_query().as_bytes(), b"").extension("login_hint"), Some("a&b"));
}

#[test]
fn the_log_names_a_broken_declared_parameter() {
    let validator = validator(Policy::oauth2().parameters(["audience"]));
    let request = validator.parse(format!("{ACCEPTED}&audience=a&audience=b").as_bytes(), b"");
    let rejection = validator.validate(request, Some(Arc::new(client()))).unwrap_err();
    assert_eq!(rejection.detail().as_deref(), Some("audience"));
}

#[test]
fn only_names_that_are_not_always_read_can_be_declared() {
    for names in [["audience", ""], ["audience", "state"], ["audience", "request_uri"]] {
        let error = Policy::oauth2().parameters(names).build().unwrap_err();
        assert_eq!(error.to_string(), "parameters[1]: must be the name of a parameter that is not always read");
    }
    assert!(Policy::oauth2().parameters(["prompt", "prompt"]).openid().parameters(["audience"]).build().is_ok());
}

#[test]
fn prompts_are_read_by_name() {
    let validator = validator(Policy::oauth2().openid());
    let request = validator.parse(format!("{ACCEPTED}&prompt=consent+select_account+login").as_bytes(), b"");
    let validated = validate(&validator, request).unwrap();
    assert_eq!(validated.prompts().collect::<Vec<_>>(), [Prompt::Consent, Prompt::SelectAccount, Prompt::Login]);
    assert!(Prompt::ALL.iter().all(|prompt| Prompt::parse(&prompt.to_string()) == Some(*prompt)));
}

#[test]
fn what_the_policy_declares_is_announced() {
    let plain = server_metadata(&Policy::default()).build();
    assert!(!plain.contains_key("prompt_values_supported"));
    assert!(!plain.contains_key("authorization_details_types_supported"));
    let policy = Policy::oauth2().openid().authorization_details_types(["payment_initiation"]).build().unwrap();
    let document = server_metadata(&policy).build();
    assert_eq!(document["prompt_values_supported"], json!(["none", "login", "consent", "select_account"]));
    assert_eq!(document["authorization_details_types_supported"], json!(["payment_initiation"]));
}

/// Says what it reads of `prompt`.
async fn prompt(request: Request<Full<Bytes>>) -> Result<Response<Full<Bytes>>, BoxError> {
    let validated = request.extensions().get::<ValidatedRequest>().unwrap();
    Ok(Response::new(validated.extension("prompt").unwrap_or("unread").to_owned().into()))
}

#[test]
fn each_tenant_declares_its_own_parameters() {
    let tenant = |policy: PolicyBuilder| Tenant::new(registry()).policy(policy.build().unwrap());
    let tenants = [tenant(Policy::oauth2()), tenant(Policy::oauth2().openid())];
    let layer = ClientValidationLayer::for_each_tenant(move |parts| {
        tenants.get(usize::from(parts.headers.contains_key("openid"))).cloned()
    });
    for (is_openid, query, expected) in [
        (false, "prompt=none", "unread"),
        (true, "prompt=none", "none"),
        (false, "prompt=bad&prompt=bad", "unread"),
        (true, "prompt=bad", "302"),
    ] {
        let mut request: Request<Full<Bytes>> = fixture::get(&format!("{ACCEPTED}&{query}"));
        if is_openid {
            request.headers_mut().insert("openid", "yes".parse().unwrap());
        }
        let (parts, _) = request.clone().into_parts();
        let response = block_on(layer.layer(service_fn(prompt)).oneshot(request)).unwrap();
        let judged = match block_on(layer.judge(&parts, Bytes::new())) {
            Verdict::Accepted(validated) => validated.extension("prompt").unwrap_or("unread").to_owned(),
            Verdict::Refused(response) => response.status().as_u16().to_string(),
            other => panic!("{other:?}"),
        };
        assert_eq!(judged, expected, "{query}");
        if response.status() == 200 {
            assert_eq!(block_on(fixture::text(response)), expected, "{query}");
        } else {
            assert_eq!(response.status().as_u16().to_string(), expected, "{query}");
        }
    }
}

#[cfg(feature = "pushed-requests")]
#[test]
fn pushed_requests_carry_declared_parameters() {
    use tower_oauth_client_validation::{MemoryStateStore, PushedRequestService, PushedRequests};

    let policy = Policy::oauth2().openid().build().unwrap();
    let pushed = PushedRequests::new(MemoryStateStore::new());
    let service = PushedRequestService::new(pushed.clone(), policy.clone())
        .client_from(|_| std::future::ready(Ok(Some(Arc::new(client())))));
    let push = |query: &str, body: String| {
        let request = Request::post(format!("/par{query}")).header("content-type", fixture::FORM);
        let response = block_on(service.clone().oneshot(request.body(Full::<Bytes>::from(body)).unwrap())).unwrap();
        let status = response.status().as_u16();
        let body: serde_json::Value = serde_json::from_str(&block_on(fixture::text(response))).unwrap();
        (status, body)
    };
    let (status, refused) = push("", format!("{ACCEPTED}&prompt=none&prompt=none"));
    assert_eq!((status, &refused["error"]), (400, &json!("invalid_request")));
    assert_eq!(push("", format!("{ACCEPTED}&prompt=create")).0, 400);
    assert_eq!(push("?prompt=none", ACCEPTED.to_owned()).0, 400);
    assert_eq!(push("?audience=none", ACCEPTED.to_owned()).0, 201);

    let (status, accepted) = push("", format!("{ACCEPTED}&prompt=login+consent"));
    assert_eq!(status, 201, "{accepted}");
    let layer = ClientValidationLayer::new(registry()).policy(policy).pushed_requests(pushed);
    let request_uri = accepted["request_uri"].as_str().unwrap();
    // What stands beside it is ignored.
    let request = fixture::get(&format!("client_id=app&request_uri={request_uri}&prompt=none"));
    let response = block_on(layer.layer(service_fn(prompt)).oneshot(request)).unwrap();
    assert_eq!(block_on(fixture::text(response)), "login consent");
}

#[test]
fn a_client_without_the_member_needs_no_dpop_key() {
    let validator = validator(Policy::oauth2().dpop_jkt_required(true));
    let request = validator.parse(ACCEPTED.as_bytes(), b"");
    assert_eq!(validate(&validator, request.clone()).unwrap().dpop_jkt(), None);
    let bound = Client::from_metadata({
        let mut metadata = client().to_metadata();
        metadata.insert("dpop_bound_access_tokens".into(), true.into());
        metadata
    });
    let rejection = validator.validate(request, Some(Arc::new(bound.unwrap()))).unwrap_err();
    assert_eq!(rejection.reason(), Reason::DPOP_JKT_MISSING);
}

#[test]
fn the_log_names_the_refused_scope_and_why() {
    let unlisted = Client::builder("app").confidential().redirect_uri(fixture::CALLBACK).build().unwrap();
    for (policy, client, scope, detail) in [
        (Policy::oauth2(), client(), "read+admin", "admin is not among the scopes of the client"),
        (Policy::oauth2(), client(), "read+*", "* cannot be requested"),
        (
            Policy::oauth2().supported_scopes("read"),
            client(),
            "read+write",
            "write is not among the scopes of the server",
        ),
        (
            Policy::oauth2(),
            unlisted.clone(),
            "read",
            "read was requested by a client without a scope list, which gets none",
        ),
        (
            Policy::oauth2().unlisted_scopes("read"),
            unlisted,
            "write",
            "write is not among the scopes of clients without a scope list",
        ),
    ] {
        let validator = validator(policy.insecure_detailed_errors(true));
        let request = validator.parse(format!("client_id=app&response_type=code&scope={scope}").as_bytes(), b"");
        let rejection = validator.validate(request, Some(Arc::new(client))).unwrap_err();
        assert_eq!(rejection.detail().as_deref(), Some(detail));
        // A description never has text of the request.
        assert_eq!(rejection.description(), Reason::SCOPE_NOT_ALLOWED.description());
    }
}
