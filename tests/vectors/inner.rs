//! The inner service that reports what it got.

use std::convert::Infallible;

use bytes::Bytes;
use http::header::HeaderValue;
use http::{Method, Request, Response};
use http_body_util::{BodyExt, Collected, Full};
use serde_json::{Map, Value, json};
use tower_oauth_client_validation::{
    CodeChallengeMethod, Delivery, Parameter, Prompt, Rejection, ReportedOutcome, UnregisteredClient, ValidatedRequest,
};

use super::answer::security_headers;

/// Tells what it got: the extensions in `x-inner`, the query in `x-query`, and the body as it came.
pub(super) async fn inner<B>(request: Request<B>) -> Result<Response<Full<Bytes>>, Infallible>
where
    B: http_body::Body<Data = Bytes>,
{
    let (parts, body) = request.into_parts();
    let validated = parts.extensions.get::<ValidatedRequest>().map(|validated| describe(validated, &parts.method));
    let told = if let Some(outcome) = parts.extensions.get::<ReportedOutcome>() {
        json!({ "reported": match outcome {
            ReportedOutcome::Accepted => json!({ "outcome": "accepted", "validated": validated.is_some() }),
            ReportedOutcome::Rejected(rejection) => {
                json!({ "outcome": "rejected", "validated": validated.is_some(), "reason": rejection.reason().as_str() })
            }
            _ => json!({ "outcome": "forwarded", "validated": validated.is_some() }),
        }})
    } else if let Some(unknown) = parts.extensions.get::<UnregisteredClient>() {
        json!({ "forwarded": { "client_id": unknown.client_id(), "validated": validated.is_some() } })
    } else if let Some(validated) = validated {
        json!({ "accepted": validated })
    } else {
        json!({ "untouched": {} })
    };
    let body = match parts.method {
        Method::HEAD => Bytes::new(),
        _ => body.collect().await.map(Collected::to_bytes).unwrap_or_default(),
    };
    let mut response = Response::new(Full::new(body));
    // JSON may hold it as it is, a header may not.
    let told = told.to_string().replace('\u{7f}', "\\u007f");
    response.headers_mut().insert("x-inner", HeaderValue::from_bytes(told.as_bytes()).unwrap());
    if let Some(query) = parts.uri.query() {
        response.headers_mut().insert("x-query", HeaderValue::from_bytes(query.as_bytes()).unwrap());
    }
    Ok(response)
}

/// Makes the rejection in the response's extensions visible over the wire.
pub(super) fn expose_rejection<B>(mut response: Response<B>) -> Response<B> {
    if let Some(rejection) = response.extensions().get::<Rejection>() {
        let (error, reason) = (rejection.error().as_str(), rejection.reason().as_str());
        let delivery = match rejection.delivery() {
            Delivery::Redirect => "redirect",
            Delivery::Confirm => "confirm",
            _ => "direct",
        };
        let headers = response.headers_mut();
        headers.insert("x-error", HeaderValue::from_static(error));
        headers.insert("x-reason", HeaderValue::from_static(reason));
        headers.insert("x-delivery", HeaderValue::from_static(delivery));
    }
    response
}

/// All that the inner service can learn, and the answer that it would give.
pub(super) fn describe(validated: &ValidatedRequest, method: &Method) -> Value {
    let challenge = validated.code_challenge();
    let success = validated.success([("code", "c d")]);
    let location = success.location().map(str::to_owned);
    let response: Response<Bytes> = success.into_http(method);
    let is_extension = |name: &str| Parameter::ALL.iter().all(|parameter| parameter.as_str() != name);
    let extensions = validated.request().pairs().filter(|(name, _)| is_extension(name));
    let extensions: Map<String, Value> = extensions.map(|(name, value)| (name.to_owned(), value.into())).collect();
    json!({
        "client_id": validated.client_id(),
        "redirect_uri": validated.redirect_uri(),
        "explicit": validated.redirect_uri_is_explicit(),
        "scope": validated.scope(),
        "response_type": validated.response_type().as_str(),
        "response_mode": validated.response_mode().as_str(),
        "state": validated.state(),
        "nonce": validated.nonce(),
        "code_challenge": challenge.map(|challenge| challenge.challenge),
        "code_challenge_method": challenge.map(|challenge| match challenge.method {
            CodeChallengeMethod::S256 => "S256",
            CodeChallengeMethod::Plain => "plain",
        }),
        "resources": validated.resources().collect::<Vec<_>>(),
        "requested_resources": validated.requested_resources().collect::<Vec<_>>(),
        "extensions": extensions,
        "prompts": validated.prompts().map(Prompt::as_str).collect::<Vec<_>>(),
        "max_age": validated.max_age().map(|age| age.as_secs()),
        "authorization_details": json!(validated.authorization_details()).to_string(),
        "dpop_jkt": validated.dpop_jkt(),
        "success": location,
        "success_status": response.status().as_u16(),
        "success_headers_fault": security_headers(response.headers()).err(),
    })
}
