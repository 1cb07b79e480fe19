//! What a request gets, and why.

use std::io::{self, Write};
use std::process::ExitCode;

use anstyle::{AnsiColor, Style};
use serde_json::{Value, json};
use tower_oauth_client_validation::{
    AuthorizationRequest, Explanation, Parameter, RedirectUri, RegistrySource, UriPart, Validator,
};
use url::form_urlencoded;

use crate::args::Check;
use crate::registry::Registry;
use crate::show::plain;
use crate::{Failure, Format, Output};

pub(crate) async fn check(
    registry: &Registry,
    check: Check,
    out: &mut Output,
    format: Format,
) -> Result<ExitCode, Failure> {
    let query = query(&check);
    let request = AuthorizationRequest::parse(query.as_bytes(), b"");
    let validator = Validator::new(check.policy.build().map_err(|error| Failure::Broken(error.to_string()))?);
    let client = match validator.client_id(&request) {
        Ok(id) => registry.source().find_client(id).await?,
        Err(_) => None,
    };
    let explanation = validator.explain(&request, client.as_deref());
    match format {
        Format::Text => write_text(&request, &explanation, out)?,
        Format::Json => writeln!(out, "{:#}", to_json(&request, &explanation))?,
    }
    Ok(if explanation.is_accepted() { ExitCode::SUCCESS } else { ExitCode::from(1) })
}

fn query(check: &Check) -> String {
    if let Some(url) = &check.url {
        let query = url.split_once('?').map_or(&**url, |(_, query)| query);
        return query.split('#').next().unwrap_or_default().to_owned();
    }
    let mut query = form_urlencoded::Serializer::new(String::new());
    if !check.parameters.iter().any(|(name, _)| *name == "response_type") {
        query.append_pair("response_type", "code");
    }
    query.extend_pairs(&check.parameters).finish()
}

const GREEN: Style = AnsiColor::Green.on_default().bold();
const RED: Style = AnsiColor::Red.on_default().bold();
const YELLOW: Style = AnsiColor::Yellow.on_default();

fn write_text(request: &AuthorizationRequest, explanation: &Explanation, out: &mut Output) -> io::Result<()> {
    let rejection = match explanation.decision() {
        Ok(accepted) => {
            writeln!(out, "{GREEN}accepted{GREEN:#}")?;
            writeln!(out, "redirect_uri  {}", plain(accepted.redirect_uri()))?;
            return writeln!(out, "scope         {}", plain(accepted.scope()));
        }
        Err(rejection) => rejection,
    };
    let answer = match rejection.redirect_uri() {
        None => "shown to the user agent, nothing is sent to the redirect URI",
        Some(_) => "sent to the redirect URI",
    };
    let reason = rejection.reason();
    writeln!(out, "{RED}refused{RED:#}       {}, {answer}", rejection.error())?;
    writeln!(out, "reason        {}: {reason}", reason.as_str())?;
    writeln!(out, "rule          {}", rejection.rule())?;
    if let Some(detail) = rejection.detail() {
        writeln!(out, "detail        {}", plain(&detail))?;
    }
    if let Some(nearest) = explanation.closest_redirect_uri() {
        let differences: Vec<_> = explanation.differences().map(UriPart::as_str).collect();
        let requested = request.get(Parameter::RedirectUri).unwrap_or_default();
        writeln!(out, "requested     {}", plain(requested))?;
        writeln!(out, "registered    {}", plain(nearest.as_str()))?;
        writeln!(out, "differs in    {YELLOW}{}{YELLOW:#}", differences.join(", "))?;
    }
    Ok(())
}

fn to_json(request: &AuthorizationRequest, explanation: &Explanation) -> Value {
    let client_id = request.get(Parameter::ClientId);
    let rejection = match explanation.decision() {
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
    let nearest = explanation.closest_redirect_uri().map(RedirectUri::as_str).map(|uri| {
        json!({ "redirect_uri": uri, "differs": explanation.differences().map(UriPart::as_str).collect::<Vec<_>>() })
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
