//! How the cost of a request grows: with clients, redirect URIs, the length of a query, parameters and scopes.
//!
//! `cargo bench --features axum --bench growth > growth.csv` writes one line for each point, and how fast each curve
//! grows to standard error; `benches/refresh growth` plots it.

#[allow(dead_code, reason = "each bench uses a part of it")]
mod measure;

use std::collections::HashMap;
use std::convert::Infallible;
use std::fmt::Write;
use std::hint::black_box;
use std::sync::Arc;

use bytes::Bytes;
use futures::FutureExt;
use http::header::{CONTENT_TYPE, HeaderValue};
use http::{Method, Request, Response, Uri};
use http_body_util::Full;
use tower::{Service, ServiceExt, service_fn};
use tower_layer::Layer;
use tower_oauth_client_validation::{Client, ClientBuilder, ClientValidationLayer, MemoryRegistry};

use self::measure::{INSTRUMENTED_SYSTEM, StatsAlloc, System};

#[global_allocator]
static ALLOCATOR: &StatsAlloc<System> = &INSTRUMENTED_SYSTEM;

/// More makes the memory of a client, and of its entry in the map it is compared with, no smaller.
const BYTES_A_CLIENT: usize = 1_500;

fn main() {
    println!("panel,subject,input,nanoseconds");
    clients();
    redirect_uris();
    query_length();
    parameters();
    scopes();
}

/// The points of one picture: each subject at each input.
struct Panel {
    name: &'static str,
    points: Vec<(&'static str, usize, f64)>,
}

impl Panel {
    fn new(name: &'static str) -> Self {
        Self { name, points: Vec::new() }
    }

    /// Measures subjects side by side.
    fn add<'a>(&mut self, input: usize, subjects: Vec<(&'static str, Box<dyn FnMut() + 'a>)>) {
        let (names, mut runs): (Vec<_>, Vec<_>) = subjects.into_iter().unzip();
        let costs = measure::costs(runs.iter_mut().map(|run| &mut **run).collect());
        for (subject, cost) in names.into_iter().zip(costs) {
            println!("{},{subject},{input},{:.1}", self.name, cost.nanoseconds);
            self.points.push((subject, input, cost.nanoseconds));
        }
    }

    /// The slope between the last two points of each subject; 1 is linear, 2 is quadratic.
    fn report(&self) {
        let mut by_subject: Vec<(&str, Vec<(usize, f64)>)> = Vec::new();
        for &(subject, input, nanoseconds) in &self.points {
            match by_subject.iter_mut().find(|(known, _)| *known == subject) {
                Some((_, points)) => points.push((input, nanoseconds)),
                None => by_subject.push((subject, vec![(input, nanoseconds)])),
            }
        }
        for (subject, points) in by_subject {
            if let [.., (input, time), (more, longer)] = points[..] {
                let exponent = (longer / time).log(more as f64 / input as f64);
                eprintln!("{}, {subject}: grows with the power of {exponent:.2}", self.name);
            }
        }
    }
}

fn powers(from: usize, to: usize) -> impl Iterator<Item = usize> {
    std::iter::successors(Some(from), |input| Some(input * 10)).take_while(move |&input| input <= to)
}

fn largest(full: usize, quick: usize) -> usize {
    if measure::is_quick() { quick } else { full }
}

fn available_memory() -> usize {
    let text = std::fs::read_to_string("/proc/meminfo").unwrap_or_default();
    let line = text.lines().find_map(|line| line.strip_prefix("MemAvailable:"));
    line.and_then(|line| line.trim().split(' ').next()?.parse::<usize>().ok()).map_or(usize::MAX, |kib| kib * 1024)
}

fn clients() {
    let mut panel = Panel::new("clients");
    for count in powers(10, largest(10_000_000, 10_000)) {
        if count * BYTES_A_CLIENT > available_memory() {
            eprintln!("{count} clients need more memory than there is");
            break;
        }
        let registry: MemoryRegistry = (0..count)
            .map(|number| {
                Client::builder(format!("client-{number:08}"))
                    .confidential()
                    .redirect_uri(format!("https://app{number:08}.example.com/callback"))
                    .redirect_uri(format!("https://app{number:08}.example.com/silent"))
                    .redirect_uri("http://127.0.0.1/callback")
                    .scope("openid profile email offline_access")
                    .build()
                    .expect("a legal client")
            })
            .collect();
        let map: HashMap<String, Arc<Client>> =
            registry.list().into_iter().map(|client| (client.id().to_owned(), client)).collect();
        // Far apart, and more than fit into the caches.
        let numbers = (0..1 << 16).map(|step: usize| step.wrapping_mul(0x9E37_79B1) % count);
        let requests: Vec<(Uri, String)> = numbers
            .map(|number| {
                let redirect_uri = format!("https%3A%2F%2Fapp{number:08}.example.com%2Fcallback");
                (uri(&format!("client-{number:08}"), &redirect_uri, ""), format!("client-{number:08}"))
            })
            .collect();
        let service = service(&ClientValidationLayer::new(registry));
        let (mut walk, mut map_walk) = (requests.iter().cycle(), requests.iter().cycle());
        panel.add(
            count,
            vec![
                ("always the same client", Box::new(|| accept(&service, get(&requests[0].0)))),
                ("any client", Box::new(|| accept(&service, get(&walk.next().expect("a circle").0)))),
                (
                    "a HashMap alone, any client",
                    Box::new(|| {
                        let client = map.get(&map_walk.next().expect("a circle").1).expect("known");
                        black_box(client.redirect_uris().last().map(|uri| uri.as_str().len()));
                    }),
                ),
            ],
        );
    }
    panel.report();
}

fn redirect_uris() {
    let mut panel = Panel::new("redirect URIs of the client");
    for count in powers(1, largest(1_000, 100)) {
        let address = |number: usize| format!("https://app.example.com/{number:04}/callback");
        let builder = (0..count)
            .fold(Client::builder("app").confidential(), |builder, number| builder.redirect_uri(address(number)));
        let service = service(&layer(builder));
        let encoded = |number: usize| format!("https%3A%2F%2Fapp.example.com%2F{number:04}%2Fcallback");
        let (first, last, none) =
            (uri("app", &encoded(0), ""), uri("app", &encoded(count - 1), ""), uri("app", &encoded(9_999), ""));
        panel.add(
            count,
            vec![
                ("the first one", Box::new(|| accept(&service, get(&first)))),
                ("the last one", Box::new(|| accept(&service, get(&last)))),
                ("none of them", Box::new(|| refuse(&service, get(&none)))),
            ],
        );
    }
    panel.report();
}

const REDIRECT_URI: &str = "https%3A%2F%2Fapp.example.com%2Fcallback";

fn app() -> ClientBuilder {
    Client::builder("app").confidential().redirect_uri("https://app.example.com/callback")
}

fn query_length() {
    let mut panel = Panel::new("bytes of the query");
    let service = service(&layer(app()));
    // http's `Uri` ends at 65,534.
    let head = query("app", REDIRECT_URI, "&state=").len();
    for length in [100, 200, 1_000, 4_000, 16_000, 65_000].into_iter().take(largest(6, 3)) {
        let fill = |text: &str| text.repeat((length - head) / text.len());
        let plain = uri("app", REDIRECT_URI, &format!("&state={}", fill("a")));
        let escaped = uri("app", REDIRECT_URI, &format!("&state={}", fill("%C3%A9")));
        let ignored = uri("app", REDIRECT_URI, &format!("&other={}", fill("%C3%A9")));
        panel.add(
            length,
            vec![
                ("a long state", Box::new(|| accept(&service, get(&plain)))),
                ("a long state, all escaped", Box::new(|| accept(&service, get(&escaped)))),
                ("a long unrecognized parameter", Box::new(|| accept(&service, get(&ignored)))),
            ],
        );
    }
    panel.report();
}

fn parameters() {
    let mut panel = Panel::new("parameters in the body");
    let service = service(&layer(app()).max_body_bytes(64 << 20));
    for count in powers(10, largest(100_000, 1_000)) {
        let numbered = |text: &str| {
            (0..count).fold(String::new(), |mut body, number| {
                // Nothing that is written to a string fails.
                let _ = write!(body, "&{}", text.replace('#', &number.to_string()));
                body
            })
        };
        let unknown = body(&numbered("a#=1"));
        let same = body(&numbered("a=1"));
        let states = body(&numbered("state=#"));
        let resources = body(&numbered("resource=https%3A%2F%2Fapi.example%2F#"));
        let equal_resources = body(&numbered("resource=https%3A%2F%2Fapi.example%2F"));
        panel.add(
            count,
            vec![
                ("unrecognized", Box::new(|| accept(&service, post(&unknown)))),
                ("unrecognized, all the same", Box::new(|| accept(&service, post(&same)))),
                ("state, again and again", Box::new(|| refuse(&service, post(&states)))),
                ("resource", Box::new(|| accept(&service, post(&resources)))),
                ("resource, all the same", Box::new(|| accept(&service, post(&equal_resources)))),
            ],
        );
    }
    panel.report();
}

fn scopes() {
    let mut panel = Panel::new("scopes in the body");
    for count in powers(10, largest(10_000, 1_000)) {
        let tokens: Vec<_> = (0..count).map(|number| format!("scope-{number}")).collect();
        let all = service(&layer(app().scope("*")).max_body_bytes(64 << 20));
        let listed = service(&layer(app().scope(tokens.join(" "))).max_body_bytes(64 << 20));
        let different = body(&format!("&scope={}", tokens.join("+")));
        let same = body(&format!("&scope={}", vec!["scope-1"; count].join("+")));
        panel.add(
            count,
            vec![
                ("each once, any allowed", Box::new(|| accept(&all, post(&different)))),
                ("each once, all listed", Box::new(|| accept(&listed, post(&different)))),
                ("the same again and again", Box::new(|| accept(&listed, post(&same)))),
            ],
        );
    }
    panel.report();
}

fn layer(client: ClientBuilder) -> ClientValidationLayer<MemoryRegistry> {
    ClientValidationLayer::new(MemoryRegistry::from_clients([client.build().expect("a legal client")]))
}

type Answer = Result<Response<Full<Bytes>>, Infallible>;

fn service(
    layer: &ClientValidationLayer<MemoryRegistry>,
) -> impl Service<Request<Full<Bytes>>, Response = Response<Full<Bytes>>, Error = Infallible> + Clone + use<> {
    layer.layer(service_fn(|request: Request<Full<Bytes>>| {
        drop(black_box(request));
        std::future::ready(Answer::Ok(Response::new(Full::default())))
    }))
}

fn accept<S>(service: &S, request: Request<Full<Bytes>>)
where
    S: Service<Request<Full<Bytes>>, Response = Response<Full<Bytes>>> + Clone,
{
    assert!(status(service, request) == 200);
}

fn refuse<S>(service: &S, request: Request<Full<Bytes>>)
where
    S: Service<Request<Full<Bytes>>, Response = Response<Full<Bytes>>> + Clone,
{
    assert!(status(service, request) != 200);
}

fn status<S>(service: &S, request: Request<Full<Bytes>>) -> u16
where
    S: Service<Request<Full<Bytes>>, Response = Response<Full<Bytes>>> + Clone,
{
    let answer = service.clone().oneshot(request).now_or_never();
    answer.and_then(Result::ok).map_or(0, |response| response.status().as_u16())
}

fn query(client_id: &str, redirect_uri: &str, more: &str) -> String {
    format!("response_type=code&client_id={client_id}&redirect_uri={redirect_uri}{more}")
}

fn uri(client_id: &str, redirect_uri: &str, more: &str) -> Uri {
    format!("/authorize?{}", query(client_id, redirect_uri, more)).parse().expect("a legal URI")
}

fn body(more: &str) -> Bytes {
    query("app", REDIRECT_URI, more).into()
}

fn get(uri: &Uri) -> Request<Full<Bytes>> {
    let mut request = Request::new(Full::default());
    *request.uri_mut() = uri.clone();
    request
}

fn post(body: &Bytes) -> Request<Full<Bytes>> {
    let mut request = Request::new(Full::new(body.clone()));
    *request.method_mut() = Method::POST;
    *request.uri_mut() = Uri::from_static("/authorize");
    let form = HeaderValue::from_static("application/x-www-form-urlencoded");
    request.headers_mut().insert(CONTENT_TYPE, form);
    request
}
