//! Shared by many tests: a client, its requests, and sources and bodies that wait for the test.

use std::sync::Arc;

use bytes::Bytes;
use futures::FutureExt;
use futures::future::BoxFuture;
use http::{Request, Response, header};
use http_body::Frame;
use http_body_util::{BodyExt, StreamBody};
use tokio::sync::{mpsc, oneshot};
use tower::BoxError;
use tower_oauth_client_validation::{
    Client, ClientStatus, ClientValidationLayer, LoopbackPorts, MemoryRegistry, RegistryError, RegistrySource,
};

pub(crate) const CALLBACK: &str = "https://app.example/cb";
pub(crate) const FORM: &str = "application/x-www-form-urlencoded";
pub(crate) const ACCEPTED: &str = "client_id=app&response_type=code&scope=read&state=xyz";
pub(crate) const UNKNOWN: &str = "client_id=nobody&response_type=code";
pub(crate) const WRONG_SCOPE: &str = "client_id=app&response_type=code&scope=admin&state=xyz";

pub(crate) type Found = Result<Option<Arc<Client>>, RegistryError>;

pub(crate) fn client() -> Client {
    Client::builder("app").name("App").confidential().redirect_uri(CALLBACK).scope("read write").build().unwrap()
}

pub(crate) fn registry() -> MemoryRegistry {
    MemoryRegistry::from_clients([client()])
}

pub(crate) fn layer() -> ClientValidationLayer<MemoryRegistry> {
    ClientValidationLayer::new(registry())
}

pub(crate) fn get<B: Default>(query: &str) -> Request<B> {
    Request::get(format!("/authorize?{query}")).body(B::default()).unwrap()
}

pub(crate) fn post<B>(body: impl Into<B>) -> Request<B> {
    form(body.into())
}

/// Like [`post`], of just this body.
pub(crate) fn form<B>(body: B) -> Request<B> {
    Request::post("/authorize").header(header::CONTENT_TYPE, FORM).body(body).unwrap()
}

/// Whether an active client may use this redirect URI and, where one is given, this scope.
pub(crate) fn may_use(store: &MemoryRegistry, id: &str, uri: Option<&str>, scope: Option<&str>) -> bool {
    store.get(id).is_some_and(|client| {
        let allows = |scope: &str| {
            client.allowed_scopes().is_some_and(|allowed| scope.split(' ').all(|token| allowed.contains(token)))
        };
        client.status() == ClientStatus::Active
            && uri.is_none_or(|uri| client.check_redirect_uri(uri, LoopbackPorts::Any).is_ok())
            && scope.is_none_or(allows)
    })
}

/// Whether the client's metadata holds the SHA-256 of `secret`.
#[cfg(feature = "registration")]
pub(crate) fn has_secret(client: &Client, secret: &str) -> bool {
    use sha2::{Digest, Sha256};

    let digest: String = Sha256::digest(secret).iter().map(|byte| format!("{byte:02x}")).collect();
    client.metadata().and_then(|members| members.get("client_secret_sha256")).is_some_and(|stored| *stored == *digest)
}

pub(crate) async fn text<B>(response: Response<B>) -> String
where
    B: http_body::Body,
    B::Error: std::fmt::Debug,
{
    String::from_utf8(response.into_body().collect().await.unwrap().to_bytes().into()).unwrap()
}

pub(crate) fn location<B>(response: &Response<B>) -> &str {
    response.headers()[header::LOCATION].to_str().unwrap()
}

/// A source whose lookups wait until the test answers them.
#[derive(Clone, Debug)]
pub(crate) struct HeldRegistry(mpsc::UnboundedSender<Lookup>);

#[derive(Debug)]
pub(crate) struct Lookup {
    pub(crate) client_id: String,
    answer: oneshot::Sender<Found>,
}

impl Lookup {
    pub(crate) fn answer(self, found: Found) {
        // The request may be gone by now, which is what some tests are about.
        let _ = self.answer.send(found);
    }

    pub(crate) fn is_dropped(&self) -> bool {
        self.answer.is_closed()
    }
}

pub(crate) fn held_registry() -> (HeldRegistry, mpsc::UnboundedReceiver<Lookup>) {
    let (sender, receiver) = mpsc::unbounded_channel();
    (HeldRegistry(sender), receiver)
}

impl RegistrySource for HeldRegistry {
    type Future = BoxFuture<'static, Found>;

    fn find_client(&self, client_id: &str) -> Self::Future {
        let (answer, answered) = oneshot::channel();
        self.0.send(Lookup { client_id: client_id.to_owned(), answer }).unwrap();
        async move { answered.await.unwrap_or_else(|_| Err(RegistryError::transient("nobody answered"))) }.boxed()
    }
}

pub(crate) type Frames = futures::channel::mpsc::UnboundedSender<Result<Frame<Bytes>, BoxError>>;

pub(crate) type HeldBody = StreamBody<futures::channel::mpsc::UnboundedReceiver<Result<Frame<Bytes>, BoxError>>>;

/// A body whose frames the test sends; the sender shows whether the body was dropped.
pub(crate) fn held_body() -> (Frames, HeldBody) {
    let (sender, receiver) = futures::channel::mpsc::unbounded();
    (sender, StreamBody::new(receiver))
}
