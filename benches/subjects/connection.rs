//! hyper without a network: a connection in memory, polled by hand.

use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll, Waker};

use bytes::Bytes;
use http::{Request, Response};
use hyper::body::{Body, Incoming};
use hyper::server::conn::http1;
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite, DuplexStream, ReadBuf};
use tower::BoxError;

use super::Case;

/// The client's end of a connection, and the server behind the other end.
pub(super) struct Connection {
    client: DuplexStream,
    server: Pin<Box<dyn Future<Output = hyper::Result<()>>>>,
}

impl Connection {
    pub(super) fn new<S, B>(service: S) -> Self
    where
        S: hyper::service::Service<Request<Incoming>, Response = Response<B>> + 'static,
        S::Error: Into<BoxError>,
        B: Body<Data = Bytes> + 'static,
        B::Error: Into<BoxError>,
    {
        let (client, server) = tokio::io::duplex(64 * 1024);
        Self { client, server: Box::pin(http1::Builder::new().serve_connection(TokioIo::new(server), service)) }
    }

    /// One request after the other over this connection.
    pub(super) fn runs(mut self, case: &Case) -> impl FnMut() -> bool + use<> {
        let request = if case.is_post {
            format!(
                "POST /authorize HTTP/1.1\r\nhost: as.example\r\naccept: */*\r\n\
                 content-type: application/x-www-form-urlencoded\r\ncontent-length: {}\r\n\r\n{}",
                case.parameters.len(),
                case.parameters
            )
        } else {
            format!("GET /authorize?{} HTTP/1.1\r\nhost: as.example\r\naccept: */*\r\n\r\n", case.parameters)
        };
        move || self.accepts(request.as_bytes())
    }

    fn accepts(&mut self, request: &[u8]) -> bool {
        let mut context = Context::from_waker(Waker::noop());
        let written = Pin::new(&mut self.client).poll_write(&mut context, request);
        assert!(matches!(written, Poll::Ready(Ok(length)) if length == request.len()));
        let mut answer = [0; 4096];
        let mut answer = ReadBuf::new(&mut answer);
        while answer.filled().is_empty() {
            assert!(self.server.as_mut().poll(&mut context).is_pending(), "the connection stays open");
            let read = Pin::new(&mut self.client).poll_read(&mut context, &mut answer);
            assert!(!matches!(read, Poll::Ready(Err(_))), "what was written can be read");
        }
        answer.filled().starts_with(b"HTTP/1.1 200 ")
    }
}
