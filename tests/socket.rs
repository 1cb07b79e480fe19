//! Servers and requests over real sockets.

use std::net::SocketAddr;

use bytes::Bytes;
use http::{Request, Response, header};
use http_body::Frame;
use http_body_util::{BodyExt, Full, StreamBody};
use hyper_util::rt::TokioIo;
use tokio::net::{TcpListener, TcpStream};
use tower::BoxError;

/// A body of unknown length, which goes over a socket in chunks.
pub(crate) fn chunked(
    chunks: impl IntoIterator<Item = Vec<u8>, IntoIter: Send> + Send + 'static,
) -> http_body_util::combinators::UnsyncBoxBody<Bytes, BoxError> {
    let frames = chunks.into_iter().map(|chunk| Ok(Frame::data(Bytes::from(chunk))));
    StreamBody::new(futures::stream::iter(frames)).boxed_unsync()
}

/// Serves on a free port of this machine for as long as the test runs.
pub(crate) async fn serve(router: axum::Router) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move { axum::serve(listener, router).await });
    address
}

/// Sends one request over its own connection.
pub(crate) async fn send<B>(address: SocketAddr, mut request: Request<B>) -> Response<Full<Bytes>>
where
    B: http_body::Body<Data = Bytes> + Send + 'static,
    B::Error: Into<BoxError>,
{
    let stream = TcpStream::connect(address).await.unwrap();
    let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await.unwrap();
    tokio::spawn(connection);
    let host = address.to_string();
    request.headers_mut().entry(header::HOST).or_insert(host.parse().unwrap());
    let body = request.into_parts();
    let request = Request::from_parts(body.0, body.1.map_err(Into::into).boxed_unsync());
    let (parts, body) = sender.send_request(request).await.unwrap().into_parts();
    Response::from_parts(parts, Full::new(body.collect().await.unwrap().to_bytes()))
}
