//! Whatever comes in: no panic, no line break in a header, and a `Location` that begins with an admitted URI.
#![no_main]

use std::convert::Infallible;
use std::sync::LazyLock;

use bytes::Bytes;
use futures::FutureExt;
use http::{Request, Response};
use http_body_util::Full;
use libfuzzer_sys::fuzz_target;
use tower::{ServiceBuilder, ServiceExt};
use tower_oauth_client_validation::{Client, ClientValidationLayer, MemoryRegistry, Policy, ResponseType, ResponseTypes, ValidatedRequest};

const REGISTERED: [&str; 5] = [
    "https://app.example/cb",
    "https://app.example/cb?tenant=1",
    "http://127.0.0.1/cb",
    "http://localhost:*",
    "com.example.app:/cb",
];

static LAYER: LazyLock<ClientValidationLayer<MemoryRegistry>> = LazyLock::new(|| {
    let mut client = Client::builder("app").scope("read write");
    for uri in REGISTERED {
        client = client.redirect_uri(uri);
    }
    let client = client.build().expect("legal");
    let types = ResponseTypes::CODE.with(ResponseType::CODE_ID_TOKEN).with(ResponseType::TOKEN);
    ClientValidationLayer::new(MemoryRegistry::from_clients([client]))
        .policy(Policy::oauth2().response_types(types).issuer("https://login.example"))
});

async fn inner(request: Request<Full<Bytes>>) -> Result<Response<Full<Bytes>>, Infallible> {
    let validated = request.extensions().get::<ValidatedRequest>();
    Ok(validated.map_or_else(|| Response::new(Full::default()), |it| it.success([("code", "c")]).into_http(request.method())))
}

fuzz_target!(|input: (&str, &str, &str, &[u8], &[u8])| {
    let (method, uri, content_type, accept, body) = input;
    let request = Request::builder().method(method).uri(format!("/authorize?client_id=app&{uri}"));
    let request = request.header("content-type", content_type).header("accept", accept);
    let Ok(request) = request.body(Full::from(body.to_vec())) else {
        return;
    };
    let service = ServiceBuilder::new().layer(LAYER.clone()).service_fn(inner);
    let response = service.oneshot(request).now_or_never().expect("nothing waits").expect("infallible");
    for value in response.headers().values() {
        assert!(!value.as_bytes().iter().any(|byte| matches!(byte, b'\r' | b'\n')));
    }
    if let Some(location) = response.headers().get("location") {
        let location = location.to_str().expect("visible ASCII");
        let browser = url::Url::parse(location).expect("a URL");
        match browser.scheme() {
            "https" => assert!(REGISTERED[..2].iter().any(|uri| location.starts_with(uri)) && browser.host_str() == Some("app.example")),
            "http" => assert!(matches!(browser.host_str(), Some("127.0.0.1" | "localhost"))),
            scheme => assert_eq!(scheme, "com.example.app"),
        }
    }
});
