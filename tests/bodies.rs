//! Bodies, kept and wrapped, as the inner service and the user agent get them.

use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Poll};

use bytes::Bytes;
use http::{HeaderMap, Request, Response, header};
use http_body::{Body, Frame, SizeHint};
use http_body_util::{BodyExt, Full};
use tower::{BoxError, Layer, ServiceExt, service_fn};
use tower_oauth_client_validation::{DEFAULT_MAX_BODY_BYTES, Reason, Rejection, RequestBody, ResponseBody};

use crate::fixture::{self, ACCEPTED, HeldBody, UNKNOWN, form, held_body, layer, text};

/// Some frames, and how often it was asked for one.
#[derive(Debug)]
struct Frames {
    left: std::collections::VecDeque<Frame<Bytes>>,
    hint: SizeHint,
    polls: Arc<AtomicUsize>,
}

impl Frames {
    fn new(frames: impl IntoIterator<Item = Frame<Bytes>>) -> Self {
        Self { left: frames.into_iter().collect(), hint: SizeHint::default(), polls: Arc::default() }
    }

    fn data(chunks: &[&'static str]) -> Self {
        Self::new(chunks.iter().map(|chunk| Frame::data(Bytes::from_static(chunk.as_bytes()))))
    }
}

impl Body for Frames {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        self.polls.fetch_add(1, Ordering::Relaxed);
        Poll::Ready(self.left.pop_front().map(Ok))
    }

    fn size_hint(&self) -> SizeHint {
        self.hint
    }
}

fn trailers() -> HeaderMap {
    HeaderMap::from_iter([(header::ETAG, "abc".parse().unwrap())])
}

type Got = Vec<Result<Frame<Bytes>, BoxError>>;

async fn frames_of<B>(mut body: B) -> Got
where
    B: Body<Data = Bytes> + Unpin,
    B::Error: Into<BoxError>,
{
    let mut frames = Vec::new();
    while let Some(frame) = body.frame().await {
        frames.push(frame.map_err(Into::into));
    }
    frames
}

/// What arrives at the inner service: hint, whether it said to be at its end, and its frames.
async fn wrapped<B>(request: Request<B>) -> (SizeHint, bool, Got)
where
    B: Body<Data = Bytes> + Unpin,
    B::Error: Into<BoxError>,
{
    let inner = service_fn(|request: Request<RequestBody<B>>| async move {
        let body = request.into_body();
        let (hint, is_end) = (body.size_hint(), body.is_end_stream());
        let frames = frames_of(body).await;
        let mut response = Response::new(Full::<Bytes>::default());
        response.extensions_mut().insert(Arc::new((hint, is_end, frames)));
        Ok::<_, BoxError>(response)
    });
    let mut response = layer().report_only(true).wrap_bodies().layer(inner).oneshot(request).await.unwrap();
    Arc::into_inner(response.extensions_mut().remove::<Arc<(SizeHint, bool, Got)>>().unwrap()).unwrap()
}

fn data(got: &Got) -> Vec<&[u8]> {
    got.iter().map(|frame| &**frame.as_ref().unwrap().data_ref().unwrap()).collect()
}

#[tokio::test]
async fn a_body_that_was_read_is_replayed_with_its_trailers() {
    let (one, two) = ACCEPTED.split_at(9);
    let mut frames = Frames::data(&[one, "", two]);
    frames.left.push_back(Frame::trailers(trailers()));
    let (hint, is_end, mut got) = wrapped(form(frames)).await;
    assert_eq!(hint.exact(), Some(ACCEPTED.len() as u64));
    assert!(!is_end);
    assert_eq!(got.pop().unwrap().unwrap().into_trailers().unwrap(), trailers());
    assert_eq!(data(&got).concat(), ACCEPTED.as_bytes());
}

#[tokio::test]
async fn an_empty_body_stays_empty() {
    let (hint, is_end, got) = wrapped(form(Frames::data(&[]))).await;
    assert_eq!((hint.exact(), is_end, got.len()), (Some(0), true, 0));
    let (_, is_end, got) = wrapped(form(Frames::new([Frame::trailers(trailers())]))).await;
    assert!(!is_end);
    assert_eq!(got.len(), 1);
}

#[tokio::test]
async fn a_body_that_is_not_needed_is_not_read() {
    for builder in [Request::get("/"), Request::options("/"), Request::put("/"), Request::post("/")] {
        let mut frames = Frames::data(&["one", "", "two"]);
        frames.hint.set_lower(1);
        frames.hint.set_upper(100);
        frames.left.push_back(Frame::trailers(trailers()));
        let (hint, is_end, mut got) = wrapped(builder.body(frames).unwrap()).await;
        assert_eq!((hint.lower(), hint.upper(), is_end), (1, Some(100), false));
        assert!(got.pop().unwrap().unwrap().is_trailers());
        assert_eq!(data(&got), [&b"one"[..], b"", b"two"]);
    }
}

#[tokio::test]
async fn a_body_over_the_limit_is_not_read_further_and_is_complete_in_report_only_mode() {
    let chunk = || Frame::data(Bytes::from(vec![b'a'; 1000]));
    let mut frames = Frames::new((0..100).map(|_| chunk()));
    frames.hint.set_upper(500_000);
    let (hint, is_end, got) = wrapped(form(frames)).await;
    // What was read, and the rest as it is.
    assert_eq!((hint.lower(), hint.upper(), is_end), (66_000, Some(566_000), false));
    assert_eq!(data(&got).concat().len(), 100_000);
    assert_eq!(data(&got)[0].len(), 66_000);
}

#[tokio::test]
async fn a_body_is_not_polled_more_than_needed() {
    assert_eq!(DEFAULT_MAX_BODY_BYTES, 65_536);
    let endless = || {
        let frames = Frames::new((0..1_000).map(|_| Frame::data(Bytes::from(vec![b'a'; 1000]))));
        let polls = Arc::clone(&frames.polls);
        (frames, polls)
    };
    let inner = || {
        service_fn(|_: Request<RequestBody<Frames>>| async {
            Ok::<_, BoxError>(Response::new(Full::<Bytes>::default()))
        })
    };

    let (frames, polls) = endless();
    let response = layer().wrap_bodies().layer(inner()).oneshot(form(frames)).await.unwrap();
    assert_eq!((response.status().as_u16(), polls.load(Ordering::Relaxed)), (413, 66));

    let (frames, polls) = endless();
    let mut announced = form(frames);
    announced.headers_mut().insert(header::CONTENT_LENGTH, 1_000_000.into());
    let response = layer().wrap_bodies().layer(inner()).oneshot(announced).await.unwrap();
    assert_eq!((response.status().as_u16(), polls.load(Ordering::Relaxed)), (413, 0), "the header is enough");

    let (mut frames, polls) = endless();
    frames.hint.set_lower(65_537);
    let response = layer().wrap_bodies().layer(inner()).oneshot(form(frames)).await.unwrap();
    assert_eq!((response.status().as_u16(), polls.load(Ordering::Relaxed)), (413, 0), "so is the hint");

    let (frames, polls) = endless();
    let json = Request::post("/").header(header::CONTENT_TYPE, "application/json").body(frames).unwrap();
    let response = layer().wrap_bodies().layer(inner()).oneshot(json).await.unwrap();
    assert_eq!((response.status().as_u16(), polls.load(Ordering::Relaxed)), (400, 0));
}

#[tokio::test]
async fn a_wrong_content_length_does_not_lift_the_limit() {
    let large = vec![b'a'; 70_000];
    for announced in ["1", "0", "-1", "99999999999999999999999", "x"] {
        let frames = Frames::new(large.chunks(10_000).map(|chunk| Frame::data(Bytes::copy_from_slice(chunk))));
        let mut request = form(frames);
        request.headers_mut().insert(header::CONTENT_LENGTH, announced.parse().unwrap());
        let inner = service_fn(|_: Request<RequestBody<Frames>>| async {
            Ok::<_, BoxError>(Response::new(Full::<Bytes>::default()))
        });
        let response = layer().wrap_bodies().layer(inner).oneshot(request).await.unwrap();
        assert_eq!(response.status(), 413, "{announced}");
    }
}

#[tokio::test]
async fn the_limit_can_be_set() {
    let inner =
        || service_fn(|_: Request<Full<Bytes>>| async { Ok::<_, BoxError>(Response::new(Full::<Bytes>::default())) });
    let ask = async |limit: usize, body: &'static str| {
        layer().max_body_bytes(limit).layer(inner()).oneshot(fixture::post(body)).await.unwrap().status().as_u16()
    };
    assert_eq!(ask(ACCEPTED.len(), ACCEPTED).await, 200);
    assert_eq!(ask(ACCEPTED.len() - 1, ACCEPTED).await, 413);
    assert_eq!(ask(0, ACCEPTED).await, 413);
    // Nothing in it, so no client either.
    assert_eq!(ask(0, "").await, 400);
}

#[tokio::test]
async fn a_body_is_read_in_chunks() {
    let (frames, body) = held_body();
    let inner = service_fn(|request: Request<RequestBody<HeldBody>>| async move {
        Ok::<_, BoxError>(Response::new(Full::<Bytes>::from(request.into_body().collect().await?.to_bytes())))
    });
    let mut response = tokio_test::task::spawn(layer().wrap_bodies().layer(inner).oneshot(form(body)));
    for byte in ACCEPTED.bytes() {
        assert!(response.poll().is_pending());
        frames.unbounded_send(Ok(Frame::data(Bytes::from(vec![byte])))).unwrap();
        assert!(response.is_woken());
    }
    assert!(response.poll().is_pending());
    drop(frames);
    assert!(response.is_woken());
    let Poll::Ready(Ok(response)) = response.poll() else { panic!("not ready") };
    assert_eq!(text(response).await, ACCEPTED);
}

#[tokio::test]
async fn the_inner_response_body_is_not_touched() {
    let inner = service_fn(|_: Request<RequestBody<Frames>>| async {
        let mut frames = Frames::data(&["one", "two"]);
        frames.left.push_back(Frame::trailers(trailers()));
        frames.hint.set_exact(6);
        Ok::<_, BoxError>(Response::new(frames))
    });
    let service = layer().wrap_bodies().layer(inner);
    let query = format!("/authorize?{ACCEPTED}");
    let response = service.clone().oneshot(Request::get(query).body(Frames::data(&[])).unwrap()).await.unwrap();
    let body = response.into_body();
    assert_eq!((body.size_hint().exact(), body.is_end_stream()), (Some(6), false));
    let mut got = frames_of(body).await;
    assert!(got.pop().unwrap().unwrap().is_trailers());
    assert_eq!(data(&got), [b"one", b"two"]);

    let query = format!("/authorize?{UNKNOWN}");
    let response = service.oneshot(Request::get(query).body(Frames::data(&[])).unwrap()).await.unwrap();
    let body = response.into_body();
    let exact = body.size_hint().exact().unwrap();
    assert_eq!(body.collect().await.unwrap().to_bytes().len() as u64, exact);
}

#[test]
fn an_empty_response_body_is_the_default_one() {
    let body = ResponseBody::<Full<Bytes>>::default();
    assert!(body.is_end_stream());
    assert_eq!(body.size_hint().exact(), Some(0));
}

#[tokio::test]
async fn an_interrupted_body_is_refused() {
    for broken_at in 0..3 {
        let (frames, body) = held_body();
        for chunk in ["client_id=app", "&response_type=code"].iter().take(broken_at) {
            frames.unbounded_send(Ok(Frame::data(Bytes::from_static(chunk.as_bytes())))).unwrap();
        }
        frames.unbounded_send(Err("connection reset".into())).unwrap();
        let inner = service_fn(|_: Request<RequestBody<HeldBody>>| async {
            Ok::<_, BoxError>(Response::new(Full::<Bytes>::default()))
        });
        let response = layer().wrap_bodies().layer(inner).oneshot(form(body)).await.unwrap();
        assert_eq!(response.status(), 400);
        assert_eq!(response.extensions().get::<Rejection>().unwrap().reason(), Reason::BODY_UNREADABLE);
        let told = text(response).await;
        assert!(told.contains("invalid_request") && !told.contains("reset"), "{told}");
    }
}
