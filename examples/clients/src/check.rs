//! How a request is answered, and why.

use std::io::Write;
use std::process::ExitCode;

use anstyle::{AnsiColor, Style};
use serde_json::{Value, json};
use shared::causes::Causes;
use shared::registry::{Location, Registry};
use tower_oauth_client_validation::{
    AuthorizationRequest, ClientValidationLayer, Parameter, PushedRequests, RedirectUri, RegistrySource, Rejection,
    SignedRequests, UriPart, ValidatedRequest, Validator,
};
use url::form_urlencoded;

use crate::args::Check;
use crate::show::{plain, write_pairs};
use crate::{Failure, Format, Output};

pub(crate) async fn check(
    (registry, location): (&Registry, &Location),
    check: Check,
    out: &mut Output,
    format: Format,
) -> Result<ExitCode, Failure> {
    let query = query(&check);
    let request = AuthorizationRequest::parse(query.as_bytes(), b"");
    let policy = check.profile.policy().build().map_err(|error| Failure::Broken(error.to_string()))?;
    let validator = Validator::new(policy);
    let client = match validator.client_id(&request) {
        Ok(id) => registry.source().find_client(id).await?,
        Err(_) => None,
    };
    let is_signed = request.get(Parameter::Request).is_some() && check.issuer.is_some();
    let decision = if request.get(Parameter::RequestUri).is_some() || is_signed {
        let mut layer = ClientValidationLayer::new(registry.source()).validator(validator);
        if let Some(issuer) = &check.issuer {
            let signed = SignedRequests::builder(issuer).build();
            layer = layer.signed_requests(signed.map_err(|error| Failure::Broken(error.to_string()))?);
        }
        // What clients push is in the database of the clients.
        let pushed = Registry::state_store(location).await.map(PushedRequests::new);
        let pushed = pushed.map_err(|error| Failure::Broken(format!("--registry: {}", Causes(&error))))?;
        layer.pushed_requests(pushed).explain(&request).await
    } else {
        validator.validate(request.clone(), client)
    };
    match format {
        Format::Text => write_pairs(pairs(&request, &decision), out)?,
        Format::Json => writeln!(out, "{:#}", to_json(&request, &decision))?,
    }
    Ok(if decision.is_ok() { ExitCode::SUCCESS } else { ExitCode::from(1) })
}

fn query(check: &Check) -> String {
    if let Some(url) = &check.url {
        let query = url.split_once('?').map_or(&**url, |(_, query)| query);
        return query.split('#').next().unwrap_or_default().to_owned();
    }
    let parameters = [
        ("response_type", check.response_type.as_deref().or(Some("code"))),
        ("client_id", check.client.as_deref()),
        ("redirect_uri", check.redirect_uri.as_deref()),
        ("scope", check.scope.as_deref()),
        ("code_challenge", check.code_challenge.as_deref()),
        ("code_challenge_method", check.code_challenge_method.as_deref()),
    ];
    let given = parameters.iter().filter_map(|(name, value)| Some((*name, (*value)?)));
    form_urlencoded::Serializer::new(String::new()).extend_pairs(given).finish()
}

const GREEN: Style = AnsiColor::Green.on_default().bold();
const RED: Style = AnsiColor::Red.on_default().bold();
const YELLOW: Style = AnsiColor::Yellow.on_default();

type Decision = Result<ValidatedRequest, Rejection>;

fn pairs(request: &AuthorizationRequest, decision: &Decision) -> Vec<(&'static str, String)> {
    let rejection = match decision {
        Ok(accepted) => {
            return vec![
                ("decision", format!("{GREEN}accepted{GREEN:#}")),
                ("redirect_uri", plain(accepted.redirect_uri())),
                ("scope", plain(accepted.scope())),
            ];
        }
        Err(rejection) => rejection,
    };
    let answer = match rejection.redirect_uri() {
        None => "shown to the user agent; nothing is sent to the redirect URI",
        Some(_) => "sent to the redirect URI",
    };
    let reason = rejection.reason();
    let mut pairs = vec![
        ("decision", format!("{RED}refused{RED:#}")),
        ("error", format!("{}, {answer}", rejection.error())),
        ("reason", format!("{}: {reason}", reason.as_str())),
        ("rule", rejection.rule().to_owned()),
    ];
    pairs.extend(rejection.detail().map(|detail| ("detail", plain(&detail))));
    if let Some(closest) = rejection.closest_redirect_uri() {
        let differences: Vec<_> = rejection.differences().map(UriPart::as_str).collect();
        pairs.extend([
            ("requested", plain(request.get(Parameter::RedirectUri).unwrap_or_default())),
            ("registered", plain(closest.as_str())),
            ("differs in", format!("{YELLOW}{}{YELLOW:#}", differences.join(", "))),
        ]);
    }
    pairs
}

fn to_json(request: &AuthorizationRequest, decision: &Decision) -> Value {
    let client_id = request.get(Parameter::ClientId);
    let rejection = match decision {
        Ok(accepted) => {
            return json!({
                "decision": "accepted",
                "client_id": client_id,
                "redirect_uri": accepted.redirect_uri(),
                "scope": accepted.scope(),
            });
        }
        Err(rejection) => rejection,
    };
    let nearest = rejection.closest_redirect_uri().map(RedirectUri::as_str).map(|uri| {
        json!({ "redirect_uri": uri, "differs": rejection.differences().map(UriPart::as_str).collect::<Vec<_>>() })
    });
    json!({
        "decision": "refused",
        "client_id": client_id,
        "redirect_uri": request.get(Parameter::RedirectUri),
        "answer": match rejection.redirect_uri() {
            None => "user_agent",
            Some(_) => "redirect_uri",
        },
        "error": rejection.error().as_str(),
        "error_description": rejection.description(),
        "reason": rejection.reason().as_str(),
        "detail": rejection.detail(),
        "rule": rejection.rule(),
        "nearest": nearest,
    })
}
