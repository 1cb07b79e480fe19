//! The identity provider, as its client sees it.

use std::error::Error;
use std::time::Duration;

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use reqwest::header::{ACCEPT, AUTHORIZATION, CONTENT_TYPE};
use reqwest::{Client, RequestBuilder, redirect};
use serde_json::{Map, Value, json};
use tower_oauth_client_validation::Scope;
use url::Url;
use url::form_urlencoded::{Serializer, byte_serialize};

#[derive(Debug)]
pub(crate) struct Upstream {
    issuer: String,
    authorization_endpoint: Url,
    token_endpoint: String,
    registration_endpoint: Option<String>,
    sends_issuer: bool,
    scopes: Option<Scope>,
    client_id: String,
    client_secret: Option<String>,
    redirect_uri: String,
    http: Client,
}

/// What the upstream granted, as far as the user agreed to it.
pub(crate) struct Narrowed {
    pub(crate) scope: String,
}

impl Upstream {
    /// Reads the metadata, and registers this server unless it has a client id.
    pub(crate) async fn discover(
        issuer: &str,
        client_id: Option<String>,
        redirect_uri: &str,
    ) -> Result<Self, Box<dyn Error>> {
        let http = Client::builder().redirect(redirect::Policy::none()).timeout(Duration::from_secs(10)).build()?;
        let [first, second] = metadata_addresses(issuer)?;
        let document = if let Ok(document) = object(http.get(first)).await {
            document
        } else {
            let cannot = |error| format!("--upstream: the metadata of {issuer} could not be read: {error}");
            object(http.get(second)).await.map_err(cannot)?
        };
        let text = |name: &str| document.get(name).and_then(Value::as_str);
        if text("issuer") != Some(issuer) {
            return Err(format!("--upstream: the metadata of {issuer} names another issuer").into());
        }
        let missing = |name| format!("--upstream: the metadata of {issuer} has no {name}");
        let listed = |name: &str| {
            document.get(name).and_then(Value::as_array).map(|list| list.iter().filter_map(Value::as_str).collect())
        };
        let registration_endpoint = text("registration_endpoint").map(str::to_owned);
        let scopes: Option<Vec<&str>> = listed("scopes_supported");
        let scopes = scopes.map(Scope::from_tokens).transpose()?;
        let (client_id, client_secret) = match (client_id, &registration_endpoint) {
            (Some(client_id), _) => (client_id, std::env::var("UPSTREAM_CLIENT_SECRET").ok()),
            (None, Some(endpoint)) => register(&http, endpoint, redirect_uri, scopes.as_ref()).await?,
            (None, None) => return Err("--upstream-client is missing: the upstream accepts no registrations".into()),
        };
        Ok(Self {
            issuer: issuer.to_owned(),
            authorization_endpoint: Url::parse(
                text("authorization_endpoint").ok_or_else(|| missing("authorization_endpoint"))?,
            )?,
            token_endpoint: text("token_endpoint").ok_or_else(|| missing("token_endpoint"))?.to_owned(),
            registration_endpoint,
            sends_issuer: document.get("authorization_response_iss_parameter_supported") == Some(&Value::Bool(true)),
            scopes,
            client_id,
            client_secret,
            redirect_uri: redirect_uri.to_owned(),
            http,
        })
    }

    /// Where clients register, if the upstream accepts registrations.
    pub(crate) fn registration(&self) -> Option<tower_oauth_client_validation::Upstream> {
        let endpoint = self.registration_endpoint.as_ref()?;
        // An identity provider on this machine, for development.
        let is_http = self.issuer.starts_with("http://");
        Some(tower_oauth_client_validation::Upstream::endpoint(endpoint).insecure_http(is_http))
    }

    pub(crate) fn scopes(&self) -> Option<&Scope> {
        self.scopes.as_ref()
    }

    pub(crate) fn authorization_url(&self, state: &str, code_challenge: &str, scope: &str) -> String {
        let mut url = self.authorization_endpoint.clone();
        url.query_pairs_mut()
            .append_pair("response_type", "code")
            .append_pair("client_id", &self.client_id)
            .append_pair("redirect_uri", &self.redirect_uri)
            .append_pair("state", state)
            .append_pair("code_challenge", code_challenge)
            .append_pair("code_challenge_method", "S256");
        if !scope.is_empty() {
            url.query_pairs_mut().append_pair("scope", scope);
        }
        url.into()
    }

    /// RFC 9207 §2.4
    pub(crate) fn is_issuer(&self, iss: Option<&str>) -> bool {
        match iss {
            Some(iss) => iss == self.issuer,
            None => !self.sends_issuer,
        }
    }

    pub(crate) async fn redeem(&self, code: &str, code_verifier: &str, asked: &str) -> Result<Narrowed, String> {
        let mut form = vec![
            ("grant_type", "authorization_code"),
            ("code", code),
            ("redirect_uri", &self.redirect_uri),
            ("code_verifier", code_verifier),
        ];
        let mut request =
            self.http.post(&self.token_endpoint).header(CONTENT_TYPE, "application/x-www-form-urlencoded");
        match &self.client_secret {
            Some(secret) => request = request.header(AUTHORIZATION, basic(&self.client_id, secret)),
            None => form.push(("client_id", &self.client_id)),
        }
        let form = Serializer::new(String::new()).extend_pairs(form).finish();
        let tokens = object(request.body(form)).await.map_err(|error| error.to_string())?;
        if !tokens.get("access_token").is_some_and(Value::is_string) {
            return Err("the answer holds no access token".to_owned());
        }
        // No `scope` means the requested one (RFC 6749 §5.1). The user did not agree to more.
        let granted = tokens.get("scope").and_then(Value::as_str).unwrap_or(asked);
        let of_both = asked.split(' ').filter(|token| granted.split(' ').any(|granted| granted == *token));
        Ok(Narrowed { scope: of_both.collect::<Vec<_>>().join(" ") })
    }
}

/// RFC 8414 §3.1, and OpenID Connect Discovery §4.1.
fn metadata_addresses(issuer: &str) -> Result<[Url; 2], url::ParseError> {
    let mut first = Url::parse(issuer)?;
    let path = format!("/.well-known/oauth-authorization-server{}", first.path().trim_end_matches('/'));
    first.set_path(&path);
    let second = Url::parse(&format!("{}/.well-known/openid-configuration", issuer.trim_end_matches('/')))?;
    Ok([first, second])
}

async fn register(
    http: &Client,
    endpoint: &str,
    redirect_uri: &str,
    scopes: Option<&Scope>,
) -> Result<(String, Option<String>), Box<dyn Error>> {
    let mut metadata = json!({ "client_name": "MCP proxy", "redirect_uris": [redirect_uri] });
    if let Some(scopes) = scopes {
        metadata["scope"] = scopes.as_str().into();
    }
    let client =
        object(http.post(endpoint).header(CONTENT_TYPE, "application/json").body(metadata.to_string())).await?;
    let text = |name: &str| client.get(name).and_then(Value::as_str).map(str::to_owned);
    Ok((text("client_id").ok_or("--upstream: the registration gave no client id")?, text("client_secret")))
}

/// The JSON object of a successful response.
async fn object(request: RequestBuilder) -> Result<Map<String, Value>, Box<dyn Error>> {
    let answer = request.header(ACCEPT, "application/json").send().await?;
    let status = answer.status();
    let body = answer.bytes().await?;
    if !status.is_success() {
        return Err(format!("the upstream answered {status}").into());
    }
    Ok(serde_json::from_slice(&body)?)
}

/// RFC 6749 §2.3.1
fn basic(client_id: &str, secret: &str) -> String {
    let encode = |text: &str| byte_serialize(text.as_bytes()).collect::<String>();
    format!("Basic {}", BASE64_STANDARD.encode(format!("{}:{}", encode(client_id), encode(secret))))
}
