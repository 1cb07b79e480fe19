//! Value types: scopes, redirect URIs, clients, requests, rejections.

use std::collections::HashSet;
use std::error::Error;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use serde_json::json;
use tower_oauth_client_validation::{
    AllowedScopes, ApplicationType, AuthorizationRequest, Client, ClientErrorKind, ClientKind, ClientStatus, ErrorCode,
    GrantTypes, Parameter, Policy, PolicyBuilder, PolicyError, Reason, RedirectUri, RedirectUriError, RedirectUriRule,
    ResponseType, ResponseTypes, Scope, ScopeError, UriPart, Validator,
};
use url::form_urlencoded;

use crate::fixture::{ACCEPTED, CALLBACK, client};

fn request(query: &str) -> AuthorizationRequest {
    AuthorizationRequest::parse(query.as_bytes(), b"")
}

#[test]
fn a_scope_is_its_text() {
    let scope: Scope = "write read".parse().unwrap();
    assert_eq!((scope.to_string(), format!("{scope:?}")), ("write read".to_owned(), "\"write read\"".to_owned()));
    assert_eq!(scope.iter().collect::<Vec<_>>(), ["write", "read"]);
    assert!(!scope.is_empty() && Scope::default().is_empty());
    let error = "two  spaces".parse::<Scope>().unwrap_err();
    assert!(error.to_string().starts_with("not a scope"));
    assert_eq!(Scope::from_tokens(["write", "read"]).as_ref(), Ok(&scope));
    for token in ["two words", "", "é", "\""] {
        assert!(Scope::from_tokens(["read", token]).is_err(), "{token}");
    }
    let equal = Scope::parse("write read").unwrap();
    assert_eq!(scope, equal);
    assert_eq!(AllowedScopes::new(scope).as_str(), "write read");
    assert_eq!(AllowedScopes::new(Scope::parse("read *").unwrap()).as_str(), "*");
}

#[test]
fn a_redirect_uri_is_its_text() {
    let text = "http://127.0.0.1:*/cb";
    let uri: RedirectUri = text.parse().unwrap();
    assert_eq!((uri.to_string(), format!("{uri:?}")), (text.to_owned(), format!("{text:?}")));
    assert!(uri.is_loopback() && uri.has_wildcard_port());
    let elsewhere = RedirectUri::parse(CALLBACK).unwrap();
    assert!(!elsewhere.is_loopback() && !elsewhere.has_wildcard_port());
}

#[test]
fn a_client_keeps_what_it_was_built_from() {
    let plain = Client::builder("app").build().unwrap();
    assert_eq!((plain.name(), plain.metadata(), plain.application_type()), (None, None, None));
    let named = plain.to_builder().name("App").application_type(ApplicationType::Native).build().unwrap();
    assert_eq!((named.name(), named.metadata()), (Some("App"), None));
    assert_eq!(named.application_type(), Some(ApplicationType::Native));
    assert_eq!(named.to_metadata()["application_type"], "native");
    let web = named.to_builder().application_type(ApplicationType::Web).metadata("contact", "a@b.example");
    let web = web.build().unwrap();
    assert_eq!(web.to_metadata()["application_type"], "web");
    assert_eq!(web.metadata().map(|others| &others["contact"]), Some(&"a@b.example".into()));
}

#[test]
fn setters_replace_earlier_values() {
    let came = json!({
        "client_id": "app",
        "response_types": ["code", "own"],
        "grant_types": ["authorization_code", "own"],
        "token_endpoint_auth_method": "private_key_jwt",
    });
    let came = Client::from_metadata(came).unwrap();
    assert_eq!(came.to_metadata()["response_types"], json!(["code", "own"]));
    let anew = came.to_builder().response_types(ResponseTypes::CODE).grant_types(GrantTypes::AUTHORIZATION_CODE);
    let anew = anew.public().build().unwrap().to_metadata();
    assert_eq!(anew["response_types"], json!(["code"]));
    assert_eq!(anew["grant_types"], json!(["authorization_code"]));
    assert_eq!(anew["token_endpoint_auth_method"], "none");
}

#[test]
fn metadata_cannot_set_members_that_have_a_setter() {
    for member in [
        "application_type",
        "client_id",
        "client_name",
        "default_scope",
        "disabled",
        "dynamic",
        "expires_at",
        "grant_types",
        "insecure_http",
        "redirect_uris",
        "response_types",
        "revoked",
        "scope",
        "token_endpoint_auth_method",
        "trusted",
    ] {
        let error = Client::builder("app").metadata(member, true).metadata("contact", "a").build().unwrap_err();
        assert_eq!(error.kind(), &ClientErrorKind::BuilderMember(member.to_owned()));
        assert_eq!((error.client_id(), error.kind().member()), (Some("app"), Some(member)));
        assert!(error.to_string().starts_with(&format!(r#"client "app": {member}: "#)), "{error}");
    }
}

#[test]
fn the_authentication_method_decides_the_kind_and_is_written_back() {
    for (method, kind) in [
        ("none", ClientKind::Public),
        ("client_secret_basic", ClientKind::Confidential),
        ("private_key_jwt", ClientKind::Confidential),
    ] {
        let client = Client::builder("app").token_endpoint_auth_method("tls_client_auth").build().unwrap();
        let client = client.to_builder().token_endpoint_auth_method(method).build().unwrap();
        assert_eq!((client.kind(), &client.to_metadata()["token_endpoint_auth_method"]), (kind, &method.into()));
        assert_eq!(Client::from_metadata(client.to_metadata()).unwrap(), client);
    }
}

#[test]
fn metadata_allows_plain_http_only_when_it_says_insecure() {
    let metadata = json!({ "client_id": "app", "redirect_uris": ["http://app.example/cb"] });
    let error = Client::from_metadata(metadata.clone()).unwrap_err();
    assert!(
        matches!(error.kind(), ClientErrorKind::RedirectUri { index: 0, source } if source.rule() == RedirectUriRule::PlainHttp)
    );
    let mut insecure = metadata;
    insecure["insecure_http"] = true.into();
    let client = Client::from_metadata(insecure).unwrap();
    assert!(client.redirect_uris()[0].matches("http://app.example/cb"));
    assert_eq!(client.to_metadata()["insecure_http"], true);
    assert_eq!(Client::from_metadata(client.to_metadata()).unwrap(), client);
    let loopback = Client::builder("app").redirect_uri("http://localhost/cb").build().unwrap();
    assert!(!loopback.to_metadata().contains_key("insecure_http"));
}

#[test]
fn a_client_is_active_until_it_is_disabled_or_expires() {
    let now = SystemTime::UNIX_EPOCH + Duration::from_secs(1_000);
    let active = Client::builder("app").build().unwrap();
    assert!(active.is_active_at(now));
    for status in [ClientStatus::Disabled, ClientStatus::Revoked] {
        assert!(!active.to_builder().status(status).build().unwrap().is_active_at(now));
    }
    let ends = active.to_builder().expires_at(now).build().unwrap();
    assert!(!ends.is_active_at(now) && ends.is_active_at(now - Duration::from_secs(1)));
}

#[test]
fn metadata_names_the_end_of_a_client_in_two_ways_and_the_earlier_counts() {
    let end = |members: serde_json::Value| {
        let mut metadata = json!({ "client_id": "app" });
        metadata.as_object_mut().unwrap().extend(members.as_object().unwrap().clone());
        let end = Client::from_metadata(metadata).unwrap().expires_at()?;
        Some(end.duration_since(SystemTime::UNIX_EPOCH).unwrap().as_secs())
    };
    assert_eq!(end(json!({ "client_expires_at": 1_000 })), Some(1_000));
    assert_eq!(end(json!({ "client_expires_at": 0 })), None);
    assert_eq!(end(json!({ "client_expires_at": 0, "expires_at": 7 })), Some(7));
    assert_eq!(end(json!({ "client_expires_at": 1_000, "expires_at": 7 })), Some(7));
    assert_eq!(end(json!({ "client_expires_at": 7, "expires_at": 1_000 })), Some(7));
}

#[test]
fn stored_metadata_loses_bad_redirect_uris_and_nothing_else() {
    let stored = json!({
        "client_id": "app",
        "redirect_uris": ["smb://host/share", CALLBACK, "http://app.example/cb"],
        "scope": "read",
    });
    assert!(Client::from_metadata(stored.clone()).is_err());
    let (client, dropped) = Client::from_stored_metadata(stored.clone()).unwrap();
    assert_eq!(client.redirect_uris().iter().map(RedirectUri::as_str).collect::<Vec<_>>(), [CALLBACK]);
    let rules: Vec<_> = dropped
        .iter()
        .map(|error| match error.kind() {
            ClientErrorKind::RedirectUri { index, source } => (error.client_id(), *index, source.rule()),
            kind => panic!("{kind}"),
        })
        .collect();
    let app = Some("app");
    assert_eq!(rules, [(app, 0, RedirectUriRule::ForbiddenScheme), (app, 2, RedirectUriRule::PlainHttp)]);

    let mut good = stored.clone();
    good["redirect_uris"] = json!([CALLBACK]);
    assert_eq!(Client::from_stored_metadata(good.clone()).unwrap(), (Client::from_metadata(good).unwrap(), vec![]));
    for (member, value) in
        [("scope", json!("\"")), ("redirect_uris", json!("x")), ("disabled", json!("yes")), ("client_id", json!(1))]
    {
        let mut broken = stored.clone();
        broken[member] = value;
        assert_eq!(Client::from_stored_metadata(broken).unwrap_err().kind().member(), Some(member));
    }
}

#[test]
fn members_for_other_endpoints_are_typed_and_written_back() {
    let plain = Client::builder("app").build().unwrap();
    assert_eq!(plain.token_endpoint_auth_method(), "none");
    assert_eq!((plain.jwks(), plain.jwks_uri(), plain.request_object_signing_alg()), (None, None, None));
    assert_eq!(plain.token_endpoint_auth_signing_alg(), None);
    assert_eq!(plain.token_endpoint_auth_methods_supported().count() + plain.authorization_details_types().count(), 0);
    assert!(!plain.require_pushed_authorization_requests() && !plain.require_signed_request_object());
    assert!(!plain.dpop_bound_access_tokens());

    let keys = json!({ "keys": [{ "kty": "EC" }] });
    let metadata = json!({
        "client_id": "app",
        "token_endpoint_auth_method": "private_key_jwt",
        "token_endpoint_auth_methods_supported": ["none", "private_key_jwt"],
        "token_endpoint_auth_signing_alg": "ES256",
        "jwks": keys,
        "jwks_uri": "https://app.example/keys",
        "request_object_signing_alg": "EdDSA",
        "require_pushed_authorization_requests": true,
        "require_signed_request_object": true,
        "dpop_bound_access_tokens": true,
        "authorization_details_types": ["payment_initiation"],
    });
    let client = Client::from_metadata(metadata.clone()).unwrap();
    assert_eq!(client.token_endpoint_auth_method(), "private_key_jwt");
    assert_eq!(client.token_endpoint_auth_methods_supported().collect::<Vec<_>>(), ["none", "private_key_jwt"]);
    assert_eq!(client.token_endpoint_auth_signing_alg(), Some("ES256"));
    assert_eq!((client.jwks(), client.jwks_uri()), (Some(&keys), Some("https://app.example/keys")));
    assert_eq!(client.request_object_signing_alg(), Some("EdDSA"));
    assert!(client.require_pushed_authorization_requests() && client.require_signed_request_object());
    assert!(client.dpop_bound_access_tokens());
    assert_eq!(client.authorization_details_types().collect::<Vec<_>>(), ["payment_initiation"]);
    let written = client.to_metadata();
    for (member, value) in metadata.as_object().unwrap() {
        assert_eq!(&written[member], value);
    }
    assert_eq!(Client::from_metadata(written).unwrap(), client);
    let no_longer = client.to_builder().metadata("require_pushed_authorization_requests", false).build().unwrap();
    assert!(!no_longer.require_pushed_authorization_requests() && no_longer.require_signed_request_object());

    // Some servers write what is not set like this.
    let unset = json!({ "client_id": "app", "jwks_uri": "", "request_object_signing_alg": "", "jwks": null });
    let unset = Client::from_metadata(unset).unwrap();
    assert_eq!((unset.jwks(), unset.jwks_uri(), unset.request_object_signing_alg()), (None, None, None));
}

#[test]
fn a_requirement_of_the_wrong_type_is_an_error() {
    for member in ["require_pushed_authorization_requests", "require_signed_request_object", "dpop_bound_access_tokens"]
    {
        let error = Client::builder("app").metadata(member, "true").build().unwrap_err();
        assert_eq!(error.to_string(), format!(r#"client "app": {member}: must be true or false"#));
    }
    for (member, expected) in [
        ("jwks", "an object"),
        ("jwks_uri", "a string"),
        ("request_object_signing_alg", "a string"),
        ("token_endpoint_auth_signing_alg", "a string"),
        ("token_endpoint_auth_methods_supported", "an array of strings"),
        ("authorization_details_types", "an array of strings"),
    ] {
        let error = Client::from_stored_metadata(json!({ "client_id": "app", member: [1] })).unwrap_err();
        assert_eq!(error.to_string(), format!(r#"client "app": {member}: must be {expected}"#));
    }
}

#[test]
fn errors_of_clients_keep_their_source() {
    let uri = Client::builder("app").redirect_uri("cb").build().unwrap_err();
    assert!(uri.source().is_some_and(|source| source.is::<RedirectUriError>()));
    let scope = Client::builder("app").scope("read").default_scope("\"").build().unwrap_err();
    assert!(scope.source().is_some_and(|source| source.is::<ScopeError>()));
    assert_eq!(scope.kind().member(), Some("default_scope"));
    assert!(Client::builder("").build().unwrap_err().source().is_none());
}

#[test]
fn sets_contain_their_members() {
    let types = ResponseTypes::CODE.with(ResponseType::NONE).with(ResponseType::NONE);
    assert_eq!(types.iter().map(|one| one.to_string()).collect::<Vec<_>>(), ["code", "none"]);
    assert!(types.contains(ResponseType::CODE) && !types.contains(ResponseType::TOKEN));
    let grants = GrantTypes::IMPLICIT.with(GrantTypes::REFRESH_TOKEN).with(GrantTypes::REFRESH_TOKEN);
    assert_eq!(grants.names().collect::<Vec<_>>(), ["implicit", "refresh_token"]);
    assert!(grants.contains(GrantTypes::IMPLICIT) && !grants.contains(GrantTypes::IMPLICIT.with(GrantTypes::PASSWORD)));
    for (response_type, name, token) in [
        (ResponseType::CODE_ID_TOKEN, "code id_token", true),
        (ResponseType::CODE_TOKEN, "code token", true),
        (ResponseType::ID_TOKEN_TOKEN, "id_token token", true),
        (ResponseType::CODE_ID_TOKEN_TOKEN, "code id_token token", true),
        (ResponseType::NONE, "none", false),
    ] {
        assert_eq!(response_type.carries_id_token(), name.contains("id_token"), "{name}");
        assert_eq!((ResponseType::parse(name), response_type.carries_token()), (Some(response_type), token), "{name}");
    }
}

/// Each names a document and a place in it.
fn assert_is_citation(rule: &str) {
    let begins = ["RFC ", "OAuth 2.0 ", "OpenID Connect "].into_iter().any(|begin| rule.starts_with(begin));
    assert!(begins && (rule.contains('§') || rule.contains("appendix")), "{rule:?}");
}

#[test]
fn a_refused_redirect_uri_names_rule_and_section() {
    let (mut rules, mut messages) = (HashSet::new(), HashSet::new());
    for uri in [
        "https://app.example/a b",
        "https://app.example/\u{1}",
        "https://app.example/é",
        "https://app.example\\cb",
        "https://app.example/#",
        "cb",
        "https://app.example/%",
        "javascript:alert",
        "localhost:80",
        "https:/cb",
        "https://me@app.example/",
        "https://app.example:0/",
        "https://APP.example/",
        "http://app.example/",
        "https://app.example/../",
        "https://app.example/?code",
        "https://*.app.example/",
    ] {
        let error = RedirectUri::parse(uri).unwrap_err();
        assert_eq!(error.to_string(), format!("{} (at byte {})", error.rule().message(), error.at()));
        assert_is_citation(error.rule().section());
        let query = form_urlencoded::Serializer::new("client_id=app&response_type=code".to_owned())
            .append_pair("redirect_uri", uri)
            .finish();
        // In a request, `*` is an ordinary character, and plain `http` is a matter of what is registered.
        if !matches!(error.rule(), RedirectUriRule::PlainHttp | RedirectUriRule::Wildcard) {
            let rejection = Validator::default().validate(request(&query), Some(client().into())).unwrap_err();
            assert_eq!((rejection.rule(), rejection.detail()), (error.rule().section(), Some(error.to_string())));
        }
        rules.insert(error.rule().as_str());
        messages.insert(error.rule().message());
    }
    assert_eq!((rules.len(), messages.len()), (17, 17));
}

#[test]
fn requests_with_the_same_parameters_are_equal() {
    let asked = request("client_id=a&state=x&resource=urn:1");
    for same in [
        "client_id=a&state=x&resource=urn:1&utm=2",
        "resource=urn%3A1&state=x&client_id=a",
        "client_id=a&state=x&resource=urn:1&scope=",
    ] {
        assert_eq!(asked, request(same), "{same}");
    }
    for other in [
        "client_id=a&state=y&resource=urn:1",
        "client_id=a&resource=urn:1",
        "client_id=a&state=x&resource=urn:1&resource=urn:2",
        "client_id=a&state=x&resource=urn:1&nonce=%",
    ] {
        assert_ne!(asked, request(other), "{other}");
    }
}

#[test]
fn debug_output_of_a_request_names_parameters_without_values() {
    let shown = format!("{:?}", request("client_id=app&state=secret&scope=&ignored=1"));
    assert_eq!(shown, "AuthorizationRequest([ClientId, Scope, State])");
    let challenge = "E9Melhoa2OwvFrEMTJguCHaoeK1t8URWbuGJSstw-cM";
    let query = format!("{ACCEPTED}&nonce=hidden&code_challenge={challenge}&code_challenge_method=S256");
    let validated = Validator::default().validate(request(&query), Some(client().into())).unwrap();
    let shown = format!("{validated:?} {:?} {:?}", validated.code_challenge(), validated.success([("code", "c0de")]));
    assert!(shown.contains("S256") && shown.contains(CALLBACK), "{shown}");
    for secret in ["xyz", "hidden", challenge, "c0de"] {
        assert!(!shown.contains(secret), "{secret} in {shown}");
    }
}

#[test]
fn invalid_metadata_names_the_member() {
    for (metadata, message) in [
        (json!([]), "client metadata must be a JSON object"),
        (json!({}), "client_id: missing"),
        (json!({ "client_id": 1 }), "client_id: must be a string"),
    ] {
        assert_eq!(Client::from_metadata(metadata).unwrap_err().to_string(), message);
    }
}

#[test]
fn scopes_are_compared_whole_by_default() {
    let client = Client::builder("app").confidential().redirect_uri(CALLBACK).scope("read").build().unwrap();
    let decide = |scope: &str| {
        let request = request(&format!("client_id=app&response_type=code&scope={scope}"));
        Validator::default().validate(request, Some(client.clone().into())).is_ok()
    };
    assert!(decide("read") && !decide("Read") && !decide("rea"));
}

#[test]
fn a_success_is_a_flat_set_of_parameters() {
    let validated = Validator::default().validate(request(ACCEPTED), Some(client().into())).unwrap();
    let flat = validated.success_from(&[("code", Some("c&d")), ("session_state", None)]).unwrap();
    assert_eq!(flat.location(), Some("https://app.example/cb?code=c%26d&state=xyz"));
    let error = validated.success_from(&json!({ "code": ["c", "d"] })).unwrap_err();
    assert_eq!(error.to_string(), "the response parameters are not a flat set of names and values");
    assert!(error.source().is_some());
}

#[test]
fn a_rejection_has_reason_rule_and_differences() {
    let client = Client::builder("app")
        .confidential()
        .redirect_uri(CALLBACK)
        .redirect_uri("https://b.example/b")
        .build()
        .unwrap();
    let client = Arc::new(client);
    let refuse = |query: &str| Validator::default().validate(request(query), Some(Arc::clone(&client))).unwrap_err();

    let refused = refuse("client_id=app&response_type=code&redirect_uri=https://b.example:1/c");
    assert_eq!(refused.reason().as_str(), "redirect_uri_not_registered");
    assert_eq!(refused.rule(), refused.reason().rule());
    assert_eq!(refused.closest_redirect_uri().map(RedirectUri::as_str), Some("https://b.example/b"));
    assert_eq!(refused.differences().collect::<Vec<_>>(), [UriPart::Port, UriPart::Path]);

    let without_type = refuse(&format!("client_id=app&redirect_uri={CALLBACK}"));
    assert_eq!(without_type.reason(), Reason::RESPONSE_TYPE_MISSING);
    assert_eq!((without_type.closest_redirect_uri(), without_type.differences().count()), (None, 0));

    let unknown = Validator::default().validate(request("client_id=app"), None).unwrap_err();
    assert_eq!((unknown.reason(), unknown.closest_redirect_uri()), (Reason::CLIENT_UNKNOWN, None));
}

#[test]
fn errors_say_what_is_wrong() {
    let rejection = Validator::default().direct(Reason::CLIENT_ID_MISSING, None);
    assert_eq!(rejection.to_string(), "invalid_request: client_id is missing");
    assert_eq!(Reason::CLIENT_ID_MISSING.to_string(), "client_id is missing");
    assert_eq!(ErrorCode::InvalidScope.to_string(), "invalid_scope");
    assert_eq!(Parameter::CodeChallengeMethod.to_string(), "code_challenge_method");
    let client = |builder: tower_oauth_client_validation::ClientBuilder| builder.build().unwrap_err().to_string();
    assert_eq!(client(Client::builder("")), "client_id: must be printable ASCII and not empty");
    let uris = Client::builder("a").redirect_uri(CALLBACK).redirect_uri("cb");
    assert_eq!(client(uris), r#"client "a": redirect_uris[1]: the URI must be absolute (at byte 0)"#);
    assert!(client(Client::builder("a").scope("é")).starts_with(r#"client "a": scope: not a scope"#));
    let default = Client::builder("a").scope("read").default_scope("write");
    assert_eq!(client(default), r#"client "a": default_scope: must be among the allowed scopes"#);
}

#[test]
fn a_wrong_setting_of_a_policy_is_named_when_it_is_built() {
    let built = |policy: PolicyBuilder| policy.build().map(drop).map_err(|error| error.to_string());
    let issuer = "issuer: must be an https URL without query and fragment";
    for wrong in [
        "",
        "login.example",
        "com.example:/as",
        "http://login.example",
        "https://login.example?a",
        "https://login.example/?",
        "https://login.example/#a",
        "https://me@login.example",
        "https://login.example/ a",
        "http://localhost:*",
    ] {
        assert_eq!(built(Policy::oauth2().issuer(wrong)), Err(issuer.to_owned()), "{wrong}");
        let is_http = wrong == "http://login.example";
        assert_eq!(built(Policy::oauth2().insecure_http_issuer(wrong)).is_ok(), is_http, "{wrong}");
    }
    for right in ["https://login.example", "https://login.example/tenant/1", "http://localhost:8080", "http://[::1]"] {
        assert_eq!(built(Policy::oauth2().issuer(right)), Ok(()), "{right}");
        assert_eq!(built(Policy::oauth2().insecure_http_issuer(right)), Ok(()), "{right}");
    }
    // RFC 6749 §4.1.2.1: %x21 / %x23-5B / %x5D-7E.
    for wrong in ["no uri", "/errors", "https://docs.example/\"", "https://docs.example/\\", "https://docs.example/é"]
    {
        let error = "error_uri: must be an absolute URI".to_owned();
        assert_eq!(built(Policy::oauth2().error_uri(wrong)), Err(error), "{wrong}");
    }
    let resources = ["https://api.example/", "https://api.example/#x"];
    let error = "resources[1]: must be an absolute URI without fragment".to_owned();
    assert_eq!(built(Policy::oauth2().resources(resources)), Err(error));
    let error = |setting: &str| Err(format!("{setting}: must be scopes separated by spaces"));
    assert_eq!(built(Policy::oauth2().supported_scopes("é")), error("supported_scopes"));
    assert_eq!(built(Policy::oauth2().unlisted_scopes("é")), error("unlisted_scopes"));

    let first = Policy::oauth2().supported_scopes("é").issuer("").build().unwrap_err();
    assert!(matches!(first, PolicyError::SupportedScopes(_)) && first.source().is_some());
    assert!(Policy::oauth2().issuer("http://login.example").build().unwrap_err().source().is_some());
    assert!(Policy::oauth2().error_uri("").build().unwrap_err().source().is_none());
}
