//! The layer agrees with the reference.

use std::convert::Infallible;
use std::future::{Ready, ready};
use std::sync::Arc;

use bytes::Bytes;
use futures::{FutureExt, stream};
use http::{Request, Response};
use http_body::{Body, Frame};
use http_body_util::{BodyExt, Full, StreamBody};
use serde::Serialize;
use serde_json::{Map, Value, json};
use tower::{BoxError, Layer, Service, ServiceExt, service_fn};
use tower_oauth_client_validation::{Client, ClientValidationLayer, RegistryError, RegistrySource, registry_fn};

use super::answer;
use super::inner::{expose_rejection, inner};
use super::request;
use super::setup::{Clients, LayerOptions, SHARED, try_policy};
use crate::reference::{self, Asked, Found};

type Lookup = Result<Option<Arc<Client>>, RegistryError>;

/// A vector with the outcome of the reference.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Trial {
    pub(crate) client: Option<Value>,
    pub(crate) policy: Map<String, Value>,
    pub(crate) layer: LayerOptions,
    pub(crate) request: request::Request,
}

impl Trial {
    /// What was observed, `None` for settings or requests that there cannot be.
    ///
    /// # Errors
    ///
    /// The vector that is missing, when the layer does something else than the reference.
    pub(crate) fn check(&self) -> Result<Option<Value>, String> {
        let Some(request) = self.request.to_http() else { return Ok(None) };
        let Some(layer) = self.layer() else { return Ok(None) };
        self.agree(answer_of(layer.layer(service_fn(inner::<Full<Bytes>>)), request))
    }

    /// The same, of a body that comes in pieces of these lengths, the last one for the rest.
    pub(crate) fn check_in_pieces(&self, lengths: &[u8]) -> Result<Option<Value>, String> {
        let Some(request) = self.request.to_http() else { return Ok(None) };
        let Some(layer) = self.layer() else { return Ok(None) };
        let mut rest = Bytes::from(self.request.body());
        let mut pieces: Vec<Bytes> =
            lengths.iter().map(|&length| rest.split_to(usize::from(length).min(rest.len()))).collect();
        pieces.push(rest);
        let frames = stream::iter(pieces.into_iter().map(|piece| Ok::<_, BoxError>(Frame::data(piece))));
        let request = request.map(|_| StreamBody::new(frames));
        self.agree(answer_of(layer.wrap_bodies().layer(service_fn(inner)), request))
    }

    fn agree(&self, response: Result<Response<Vec<u8>>, String>) -> Result<Option<Value>, String> {
        let expected = self.expected();
        let observed = response.and_then(|response| answer::examine(&self.request, &response));
        let is_open = expected.get("either").is_some();
        if observed.as_ref().is_ok_and(|observed| is_open || covers(observed, &expected)) {
            return observed.map(Some);
        }
        let mut vector = json!(self);
        vector["expect"] = expected;
        Err(format!("{vector}\nthe layer: {}", observed.unwrap_or_else(|error| error.into())))
    }

    /// What the reference says.
    pub(super) fn expected(&self) -> Value {
        let own = self.client.as_ref();
        let find = |client_id: &str| match client_id {
            "registry-down" => Found::Outage,
            "registry-broken" => Found::Fault,
            "registry-confused" => Found::Client(&SHARED["web"].0),
            _ => match own.filter(|own| own["client_id"] == client_id) {
                Some(own) => Found::Client(own),
                None => SHARED.get(client_id).map_or(Found::Nothing, |(client, _)| Found::Client(client)),
            },
        };
        let limits = [self.layer.max_body_bytes.unwrap_or(64 * 1024), self.layer.outer_limit.unwrap_or(usize::MAX)];
        let asked = Asked {
            method: self.request.method_name(),
            query: &self.request.query(),
            headers: &self.request.headers(),
            body: &self.request.body(),
            max_body_bytes: limits.into_iter().min().unwrap_or_default(),
        };
        let decision = reference::decide(&self.policy, find, &asked);
        let name = decision.as_object().and_then(|decision| decision.keys().next()).map(String::as_str);
        match name {
            Some(_) if !self.layer.report_only => decision,
            Some("untouched") => decision,
            Some(name @ ("accepted" | "forwarded")) => {
                json!({ "reported": { "outcome": name, "validated": name == "accepted" } })
            }
            _ => json!({ "reported": { "outcome": "rejected", "validated": false } }),
        }
    }

    fn layer(&self) -> Option<ClientValidationLayer<impl RegistrySource<Future = Ready<Lookup>> + use<>>> {
        let clients = Clients::try_of(self.client.as_ref()).ok()?;
        let registry =
            registry_fn(move |client_id: String| ready(clients.find(&client_id).map(|found| found.map(Arc::new))));
        let layer =
            ClientValidationLayer::new(registry).policy(try_policy(&self.policy)?).report_only(self.layer.report_only);
        Some(match self.layer.max_body_bytes {
            Some(bytes) => layer.max_body_bytes(bytes),
            None => layer,
        })
    }
}

fn answer_of<S, A, B>(service: S, request: Request<A>) -> Result<Response<Vec<u8>>, String>
where
    S: Service<Request<A>, Response = Response<B>, Error = Infallible>,
    B: Body<Data = Bytes>,
{
    let answered = service.oneshot(request).now_or_never().ok_or("no answer at once")?;
    let (parts, body) = answered.map(expose_rejection).unwrap_or_else(|never| match never {}).into_parts();
    let body = body.collect().now_or_never().and_then(Result::ok).ok_or("no body at once")?;
    Ok(Response::from_parts(parts, body.to_bytes().to_vec()))
}

/// Whether all that is expected was observed.
fn covers(observed: &Value, expected: &Value) -> bool {
    let outcomes = expected.as_object().into_iter().flatten();
    let mut members = outcomes.flat_map(|(outcome, members)| {
        let found = &observed[outcome];
        members.as_object().into_iter().flatten().map(move |(member, value)| found.get(member) == Some(value))
    });
    observed
        .as_object()
        .is_some_and(|observed| observed.keys().eq(expected.as_object().into_iter().flat_map(Map::keys)))
        && members.all(|holds| holds)
}
