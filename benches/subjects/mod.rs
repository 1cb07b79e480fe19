//! The measured requests, and the services and floors that judge them.

mod connection;

use std::convert::Infallible;
use std::future::{Ready, ready};
use std::hint::black_box;
use std::rc::Rc;

use axum::Router;
use axum::extract::Query;
use axum::routing::get;
use bytes::Bytes;
use futures::FutureExt;
use http::header::{CONTENT_TYPE, HeaderValue};
use http::{Method, Request, Response, Uri};
use http_body_util::Full;
use hyper::body::Incoming;
use hyper_util::service::TowerToHyperService;
use tower::{Service, ServiceExt, service_fn};
use tower_layer::Layer;
use tower_oauth_client_validation::{Client, ClientValidationLayer, MemoryRegistry, RequestBody, ValidatedRequest};

use self::connection::Connection;
use crate::floor::{FormFloor, StreamingFloor};
use crate::measure::{self, Cost};

/// A request, and what becomes of it.
pub(crate) struct Case {
    pub(crate) name: &'static str,
    pub(crate) parameters: &'static str,
    pub(crate) is_post: bool,
    pub(crate) is_accepted: bool,
}

macro_rules! parameters {
    ($client_id:literal, $redirect_uri:literal, $scope:literal) => {
        concat!(
            "response_type=code&client_id=",
            $client_id,
            "&redirect_uri=",
            $redirect_uri,
            "&scope=",
            $scope,
            "&state=af0ifjsldkj8d7f6g5h4&code_challenge=E9Melhoa2OwvFrEMTJguCHaoeK1t8URWbuGJSstw-cM",
            "&code_challenge_method=S256"
        )
    };
}

pub(crate) const ACCEPT: &str =
    parameters!("client-0000005", "https%3A%2F%2Fapp0000005.example.com%2Fcallback", "openid+profile+email");

/// The columns of the tables.
pub(crate) const CASES: [Case; 6] = [
    Case { name: "accept", parameters: ACCEPT, is_post: false, is_accepted: true },
    Case {
        name: "loopback",
        parameters: parameters!("client-0000005", "http%3A%2F%2F127.0.0.1%3A49152%2Fcallback", "openid+profile+email"),
        is_post: false,
        is_accepted: true,
    },
    Case { name: "POST", parameters: ACCEPT, is_post: true, is_accepted: true },
    Case {
        name: "unknown client",
        parameters: parameters!("client-x", "https%3A%2F%2Fapp0000005.example.com%2Fcallback", "openid+profile+email"),
        is_post: false,
        is_accepted: false,
    },
    Case {
        name: "bad redirect URI",
        parameters: parameters!(
            "client-0000005",
            "https%3A%2F%2Fapp0000005.example.com%2Felsewhere",
            "openid+profile+email"
        ),
        is_post: false,
        is_accepted: false,
    },
    Case {
        name: "bad scope",
        parameters: parameters!(
            "client-0000005",
            "https%3A%2F%2Fapp0000005.example.com%2Fcallback",
            "openid+profile+admin"
        ),
        is_post: false,
        is_accepted: false,
    },
];

pub(crate) fn clients(count: usize) -> impl Iterator<Item = Client> {
    (0..count).map(|number| {
        Client::builder(format!("client-{number:07}"))
            .redirect_uri(format!("https://app{number:07}.example.com/callback"))
            .redirect_uri(format!("https://app{number:07}.example.com/silent"))
            .redirect_uri("http://127.0.0.1/callback")
            .scope("openid profile email offline_access")
            .build()
            .expect("a legal client")
    })
}

/// Judges one request, and says whether it was accepted.
type Run = Box<dyn FnMut() -> bool>;

/// A subject with all cases.
pub(crate) struct Row {
    pub(crate) name: &'static str,
    pub(crate) runs: Vec<Run>,
}

impl Row {
    pub(crate) fn new<F: FnMut() -> bool + 'static>(name: &'static str, run: impl Fn(&'static Case) -> F) -> Self {
        Self { name, runs: CASES.iter().map(|case| Box::new(run(case)) as Run).collect() }
    }
}

pub(crate) const BARE: &str = "bare tower service";
pub(crate) const LAYER: &str = "tower service with this layer";
pub(crate) const AXUM_QUERY: &str = "axum, `Query` or `Form` extractor";
pub(crate) const AXUM_LAYER: &str = "axum with this layer";
pub(crate) const HYPER_LAYER: &str = "hyper with this layer";
const STREAMING: &str = "floor: streaming, no allocation";

/// The floors, this layer in front of several kinds of services, and these without it.
pub(crate) fn rows(count: usize) -> Vec<Row> {
    let streaming = Rc::new(StreamingFloor::new(clients(count)));
    let form = Rc::new(FormFloor::new(clients(count)));
    let layer = ClientValidationLayer::new(clients(count).collect::<MemoryRegistry>());

    let bare = service_fn(inner as fn(Request<Full<Bytes>>) -> Ready<Result<Response<Full<Bytes>>, Infallible>>);
    let layered = layer.layer(bare);

    let handler = |validated: ValidatedRequest| async move { validated.redirect_uri().len().to_string() };
    let axum_bare = Router::new().route("/authorize", get(ok).post(ok));
    let axum_query = Router::new().route("/authorize", get(query).post(form_body));
    let axum_layered = Router::new().route("/authorize", get(handler).post(handler)).route_layer(layer.clone());

    let hyper_bare = TowerToHyperService::new(service_fn(inner::<Incoming>));
    let hyper_layered = TowerToHyperService::new(layer.wrap_bodies().layer(service_fn(inner::<RequestBody<Incoming>>)));

    vec![
        Row::new(STREAMING, |case| {
            let floor = Rc::clone(&streaming);
            move || floor.check(black_box(case.parameters))
        }),
        Row::new("floor: `form_urlencoded`, a map", |case| {
            let floor = Rc::clone(&form);
            move || floor.check(black_box(case.parameters))
        }),
        Row::new(BARE, |case| {
            let (service, request) = (bare, requests(case));
            move || call(&service, request())
        }),
        Row::new(LAYER, |case| {
            let (service, request) = (layered.clone(), requests(case));
            move || call(&service, request())
        }),
        Row::new("axum, no extractor", |case| routed(&axum_bare, case)),
        Row::new(AXUM_QUERY, |case| routed(&axum_query, case)),
        Row::new(AXUM_LAYER, |case| routed(&axum_layered, case)),
        Row::new("hyper, no extractor", |case| Connection::new(hyper_bare).runs(case)),
        Row::new(HYPER_LAYER, |case| Connection::new(hyper_layered.clone()).runs(case)),
    ]
}

fn inner<B>(request: Request<B>) -> Ready<Result<Response<Full<Bytes>>, Infallible>> {
    drop(black_box(request));
    ready(Ok(Response::new(Full::default())))
}

async fn ok() -> &'static str {
    "ok"
}

/// What a handler reads that validates nothing.
#[derive(serde::Deserialize)]
struct Parameters {
    client_id: String,
    redirect_uri: String,
    response_type: String,
    scope: String,
    state: String,
    code_challenge: String,
    code_challenge_method: String,
}

async fn query(Query(parameters): Query<Parameters>) -> String {
    parameters.answer()
}

async fn form_body(axum::Form(parameters): axum::Form<Parameters>) -> String {
    parameters.answer()
}

impl Parameters {
    fn answer(&self) -> String {
        black_box((&self.client_id, &self.response_type, &self.scope, &self.state));
        black_box((&self.code_challenge, &self.code_challenge_method));
        self.redirect_uri.len().to_string()
    }
}

fn requests(case: &'static Case) -> impl Fn() -> Request<Full<Bytes>> {
    let (uri, body) = if case.is_post {
        (Uri::from_static("/authorize"), Bytes::from_static(case.parameters.as_bytes()))
    } else {
        (format!("/authorize?{}", case.parameters).parse().expect("a legal URI"), Bytes::new())
    };
    move || {
        let mut request = Request::new(Full::new(body.clone()));
        *request.uri_mut() = uri.clone();
        if case.is_post {
            *request.method_mut() = Method::POST;
            let form = HeaderValue::from_static("application/x-www-form-urlencoded");
            request.headers_mut().insert(CONTENT_TYPE, form);
        }
        request
    }
}

/// As a server calls it: a clone of the service for each request.
fn call<S, B, T>(service: &S, request: Request<B>) -> bool
where
    S: Service<Request<B>, Response = Response<T>, Error = Infallible> + Clone,
{
    let answer = service.clone().oneshot(request).now_or_never();
    matches!(black_box(answer), Some(Ok(response)) if response.status().is_success())
}

/// One request after the other to an axum router.
pub(crate) fn routed(router: &Router, case: &'static Case) -> impl FnMut() -> bool + use<> {
    let (router, request) = (router.clone(), requests(case));
    move || call(&router, request().map(axum::body::Body::new))
}

/// Measures rows side by side, and prints a table of time and one of memory.
pub(crate) fn print(count: usize, mut rows: Vec<Row>) {
    // Not all that is compared decides as it should; the time of another decision says nothing.
    let agrees: Vec<Vec<bool>> = rows
        .iter_mut()
        .map(|row| row.runs.iter_mut().zip(&CASES).map(|(run, case)| run() == case.is_accepted).collect())
        .collect();
    let costs = measure::costs(rows.iter_mut().flat_map(|row| &mut row.runs).map(|run| &mut **run).collect());
    let costs: Vec<_> = costs.chunks(CASES.len()).collect();

    let base = costs[0][0].nanoseconds;
    let print_rows = |title: &str, cell: &dyn Fn(Cost) -> String| {
        println!("\n{title}\n\n| |{}", CASES.each_ref().map(|case| format!(" {} |", case.name)).concat());
        println!("|---|{}", "---:|".repeat(CASES.len()));
        for ((row, costs), agrees) in rows.iter().zip(&costs).zip(&agrees) {
            let cells = costs.iter().zip(agrees).zip(&CASES).map(|((cost, agrees), case)| match agrees {
                true => format!(" {} |", cell(*cost)),
                false if case.is_accepted => " refuses |".to_owned(),
                false => " lets through |".to_owned(),
            });
            println!("| {} |{}", row.name, cells.collect::<String>());
        }
    };
    let count = thousands(count);
    print_rows(&format!("{count} clients: time, of the streaming floor's {base:.0} ns"), &|cost| {
        format!("{:.2}", cost.nanoseconds / base)
    });
    print_rows(&format!("{count} clients: allocations (bytes) of a request"), &|cost| {
        format!("{} ({})", cost.allocations, cost.bytes)
    });

    let of = |name| costs[rows.iter().position(|row| row.name == name).expect("a row")];
    let above_bare = (of(LAYER)[0].nanoseconds - of(BARE)[0].nanoseconds) / base;
    let rejects = of(LAYER)[3..].iter().map(|cost| cost.allocations).max().unwrap_or_default();
    let of_query = of(AXUM_LAYER)[0].nanoseconds / of(AXUM_QUERY)[0].nanoseconds;
    println!("\n{count} clients: targets\n\n| | target | measured |\n|---|---:|---:|");
    println!("| accept, above the bare service, of the streaming floor | 1.50 | {above_bare:.2} |");
    println!("| accept, allocations | 5 | {} |", of(LAYER)[0].allocations);
    println!("| refusals, allocations at the most | 6 | {rejects} |");
    println!("| axum with this layer, of axum with `Query` | 1.00 | {of_query:.2} |");
}

/// 1000000 as 1,000,000.
pub(crate) fn thousands(number: usize) -> String {
    let digits = number.to_string();
    let groups: Vec<_> = digits.as_bytes().rchunks(3).rev().map(String::from_utf8_lossy).collect();
    groups.join(",")
}

/// Prints the tables for each number of clients; the argument, where there is one, names the only one.
pub(crate) fn main(rows: impl Fn(usize) -> Vec<Row>) {
    let only = std::env::args().skip(1).find_map(|argument| argument.parse().ok());
    let sizes: &[usize] = if measure::is_quick() { &[10, 10_000] } else { &[10, 10_000, 1_000_000] };
    measure::describe_machine();
    for &size in only.as_slice().iter().chain(if only.is_some() { &[] } else { sizes }) {
        print(size, rows(size));
    }
}
