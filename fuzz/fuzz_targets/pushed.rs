//! Pushes and authorization requests, in any order and with anything in them.
//!
//! Parts: requests, each a line `METHOD path?query content-type`, then the body. `{uri0}` stands for the `request_uri` of
//! the first push that was taken.
#![no_main]

use std::collections::BTreeSet;
use std::convert::Infallible;

use bytes::Bytes;
use futures::FutureExt;
use http::request::Parts;
use http::{Request, Response};
use http_body_util::{BodyExt, Full};
use libfuzzer_sys::{Corpus, fuzz_target};
use serde_json::Value;
use tower::{Layer, ServiceExt, service_fn};
use tower_oauth_client_validation::{
    AuthorizationRequest, Client, ClientValidationLayer, MemoryRegistry, MemoryStateStore, Parameter, Policy,
    PushedRequestService, PushedRequests, ValidatedRequest, Validator,
};
use url::form_urlencoded::byte_serialize;

const STATUSES: [u16; 5] = [201, 400, 401, 405, 413];
const MOST_REQUESTS: usize = 8;
const PREFIX: &str = "urn:ietf:params:oauth:request_uri:";

fn client(id: &str) -> Client {
    let client = Client::builder(id).redirect_uri(format!("https://{id}.example/cb")).scope("read write");
    client.build().expect("legal")
}

fuzz_target!(|input: &[u8]| -> Corpus {
    let registry = MemoryRegistry::from_clients([client("app"), client("other")]);
    let policy = Policy::oauth2().build().expect("legal");
    let pushed = PushedRequests::new(MemoryStateStore::new());
    let clients = registry.clone();
    // Public clients authenticate by their id, which the path names here.
    let par = PushedRequestService::new(pushed.clone(), policy.clone()).client_from(move |request: &Parts| {
        let found = clients.get(request.uri.path().trim_start_matches("/par/"));
        async move { Ok(found) }
    });
    let authorize = ClientValidationLayer::new(registry.clone()).policy(policy.clone()).pushed_requests(pushed).layer(
        service_fn(|request: Request<Full<Bytes>>| async move {
            let validated = request.extensions().get::<ValidatedRequest>().cloned();
            let mut response = Response::new(Full::<Bytes>::default());
            if let Some(validated) = validated {
                let is_used_up = validated.use_up().await.is_ok();
                let answer = validated.success([("code", "c")]);
                let is_error = answer.location().is_some_and(|location| location.contains("error=server_error"));
                assert!(is_used_up != is_error || answer.location().is_none());
                response.extensions_mut().insert((validated, is_used_up));
            }
            Ok::<_, Infallible>(response)
        }),
    );
    let mut uris: Vec<(String, String)> = Vec::new();
    let mut used: BTreeSet<String> = BTreeSet::new();
    for text in input.split(|&byte| byte == 0xFF).take(MOST_REQUESTS) {
        let mut text = String::from_utf8_lossy(text).into_owned();
        for (number, (uri, _)) in uris.iter().enumerate() {
            let encoded: String = byte_serialize(uri.as_bytes()).collect();
            text = text.replace(&format!("{{uri{number}}}"), &encoded);
        }
        let (line, body) = text.split_once('\n').unwrap_or((&text, ""));
        let mut line = line.splitn(3, ' ');
        let (method, target) = (line.next().unwrap_or_default(), line.next().unwrap_or_default());
        let content_type = line.next().unwrap_or("application/x-www-form-urlencoded");
        let request = Request::builder().method(method).uri(target).header("content-type", content_type);
        let Ok(request) = request.body(Full::<Bytes>::from(body.to_owned())) else {
            return Corpus::Reject;
        };
        let caller = request.uri().path().strip_prefix("/par/").map(str::to_owned);
        if let Some(caller) = caller {
            let answer = par.clone().oneshot(request).now_or_never().expect("nothing waits").expect("infallible");
            let (head, answer) = answer.into_parts();
            let status = head.status.as_u16();
            assert!(STATUSES.contains(&status), "{status}");
            assert!(head.headers.get("location").is_none());
            assert_eq!(head.headers["cache-control"], "no-store");
            let answer = answer.collect().now_or_never().expect("nothing waits").expect("infallible").to_bytes();
            if method == "HEAD" {
                continue;
            }
            let answer: Value = serde_json::from_slice(&answer).expect("JSON");
            if status != 201 {
                assert!(answer["error"].is_string() && answer.get("request_uri").is_none(), "{answer}");
                continue;
            }
            let uri = answer["request_uri"].as_str().expect("a request_uri").to_owned();
            assert!(uri.starts_with(PREFIX) && !uris.iter().any(|(known, _)| *known == uri), "{uri}");
            // What is taken is a valid request of the client that sent it.
            let asked = AuthorizationRequest::parse(b"", body.as_bytes());
            assert_eq!(asked.get(Parameter::ClientId), Some(&*caller));
            assert!(Validator::new(policy.clone()).validate(asked, registry.get(&caller)).is_ok());
            uris.push((uri, caller));
        } else {
            let query = request.uri().query().unwrap_or_default().as_bytes().to_vec();
            let asked = AuthorizationRequest::parse(&query, if method == "POST" { body.as_bytes() } else { b"" });
            let answer = authorize.clone().oneshot(request).now_or_never().expect("nothing waits").expect("infallible");
            let Some((validated, is_used_up)) = answer.extensions().get::<(ValidatedRequest, bool)>() else {
                continue;
            };
            let named = asked.get(Parameter::RequestUri);
            assert_eq!(validated.request().is_pushed(), named.is_some());
            let Some(uri) = named else {
                assert!(is_used_up);
                continue;
            };
            let (_, owner) = uris.iter().find(|(known, _)| known == uri).expect("it was given out");
            assert_eq!((validated.client_id(), asked.get(Parameter::ClientId)), (&**owner, Some(&**owner)));
            assert!(*is_used_up && used.insert(uri.to_owned()), "{uri} was used twice");
        }
    }
    Corpus::Keep
});
