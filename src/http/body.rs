//! Request bodies that are read and passed on, and response bodies of the inner service or of a refusal.

use std::fmt;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::{Buf, Bytes, BytesMut};
use http::HeaderMap;
use http_body::{Body, Frame, SizeHint};
use http_body_util::{Full, LengthLimitError};
use pin_project_lite::pin_project;
use tower::BoxError;

use self::sealed::Sealed;

mod sealed {
    pub trait Sealed {}
}

/// Keeps the body types, which must implement [`From<Bytes>`].
#[derive(Clone, Copy, Debug)]
pub struct KeepBodies(());

/// Wraps bodies of any type in [`RequestBody`] and [`ResponseBody`].
#[derive(Clone, Copy, Debug)]
pub struct WrapBodies(());

impl Sealed for KeepBodies {}
impl Sealed for WrapBodies {}

/// The body that the inner service gets in place of a `B`. Implemented by [`KeepBodies`] and [`WrapBodies`].
pub trait RequestBodies<B>: Sealed {
    /// The body type of the inner service.
    type Inner;

    /// Whether a body that was read in part can still be passed on.
    #[doc(hidden)]
    const RESUMES: bool;

    /// Passes on a body that was not read.
    #[doc(hidden)]
    fn untouched(body: B) -> Self::Inner;

    /// Passes on a body that was read, where that is possible.
    #[doc(hidden)]
    fn replayed(body: ReadBody<B>) -> Option<Self::Inner>;
}

/// The body of the response in place of a `B`. Implemented by [`KeepBodies`] and [`WrapBodies`].
pub trait ResponseBodies<B>: Sealed {
    /// The body type of the response.
    type Outer;

    /// Passes on a body of the inner service.
    #[doc(hidden)]
    fn inner(body: B) -> Self::Outer;

    /// Makes a body of a refusal.
    #[doc(hidden)]
    fn answer(body: Bytes) -> Self::Outer;
}

impl<B: From<Bytes>> RequestBodies<B> for KeepBodies {
    type Inner = B;
    const RESUMES: bool = false;

    fn untouched(body: B) -> B {
        body
    }

    fn replayed(body: ReadBody<B>) -> Option<B> {
        match body.rest {
            Rest::End(_) => Some(body.data.into()),
            Rest::More(_) | Rest::Error(_) => None,
        }
    }
}

impl<B: From<Bytes>> ResponseBodies<B> for KeepBodies {
    type Outer = B;

    fn inner(body: B) -> B {
        body
    }

    fn answer(body: Bytes) -> B {
        body.into()
    }
}

impl<B> RequestBodies<B> for WrapBodies {
    type Inner = RequestBody<B>;
    const RESUMES: bool = true;

    fn untouched(body: B) -> RequestBody<B> {
        RequestBody { state: RequestState::Untouched { body } }
    }

    fn replayed(body: ReadBody<B>) -> Option<RequestBody<B>> {
        let data = Some(body.data).filter(|data| !data.is_empty());
        Some(RequestBody { state: RequestState::Replayed { data, rest: body.rest } })
    }
}

impl<B> ResponseBodies<B> for WrapBodies {
    type Outer = ResponseBody<B>;

    fn inner(body: B) -> ResponseBody<B> {
        ResponseBody { state: ResponseState::Inner { body } }
    }

    fn answer(body: Bytes) -> ResponseBody<B> {
        ResponseBody { state: ResponseState::Answer { body: Full::new(body) } }
    }
}

/// A body that was read in part or completely.
#[doc(hidden)]
pub struct ReadBody<B> {
    data: Bytes,
    rest: Rest<B>,
}

impl<B> ReadBody<B> {
    pub(crate) fn data(&self) -> Bytes {
        self.data.clone()
    }
}

impl<B> fmt::Debug for ReadBody<B> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ReadBody").field("bytes", &self.data.len()).finish_non_exhaustive()
    }
}

enum Rest<B> {
    End(Option<HeaderMap>),
    More(Pin<Box<B>>),
    Error(Option<BoxError>),
}

/// Why a body was not read to its end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum BodyError {
    /// The body exceeds the limit, or that of an outer layer.
    TooLarge,
    /// The body was interrupted.
    Unreadable,
}

/// Reads a body up to a limit.
pub(crate) struct Reading<B> {
    /// Boxed, so that the unread rest can be passed on. `None` once the body was read.
    body: Option<Pin<Box<B>>>,
    chunks: Chunks,
    limit: usize,
}

impl<B> Reading<B>
where
    B: Body,
    B::Error: Into<BoxError>,
{
    pub(crate) fn new(body: B, limit: usize) -> Self {
        Self { body: Some(Box::pin(body)), chunks: Chunks::default(), limit }
    }

    /// Resolves to the whole body, or to its beginning and the reason why the rest is missing.
    pub(crate) fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Result<ReadBody<B>, (ReadBody<B>, BodyError)>> {
        loop {
            let Some(body) = &mut self.body else {
                // Polled again after it was ready.
                return Poll::Pending;
            };
            let frame = match ready!(body.as_mut().poll_frame(cx)) {
                None => return Poll::Ready(Ok(self.finish(Rest::End(None)))),
                Some(Ok(frame)) => frame,
                Some(Err(error)) => return Poll::Ready(Err(self.fail(error))),
            };
            match frame.into_data() {
                Ok(mut data) => {
                    self.chunks.push(data.copy_to_bytes(data.remaining()));
                    if self.chunks.len() > self.limit {
                        if let Some(rest) = self.body.take() {
                            return Poll::Ready(Err((self.finish(Rest::More(rest)), BodyError::TooLarge)));
                        }
                    }
                }
                // Trailers end a body.
                Err(frame) => return Poll::Ready(Ok(self.finish(Rest::End(frame.into_trailers().ok())))),
            }
        }
    }

    fn finish(&mut self, rest: Rest<B>) -> ReadBody<B> {
        self.body = None;
        ReadBody { data: std::mem::take(&mut self.chunks).join(), rest }
    }

    fn fail(&mut self, error: B::Error) -> (ReadBody<B>, BodyError) {
        let error: BoxError = error.into();
        let reason = if is_length_limit(&*error) { BodyError::TooLarge } else { BodyError::Unreadable };
        (self.finish(Rest::Error(Some(error))), reason)
    }
}

/// What was read so far. A single chunk, which is the common case, is not copied.
#[derive(Default)]
struct Chunks {
    first: Bytes,
    more: BytesMut,
}

impl Chunks {
    fn push(&mut self, chunk: Bytes) {
        if self.len() == 0 {
            self.first = chunk;
        } else {
            if self.more.is_empty() {
                self.more.extend_from_slice(&std::mem::take(&mut self.first));
            }
            self.more.extend_from_slice(&chunk);
        }
    }

    fn len(&self) -> usize {
        self.first.len() + self.more.len()
    }

    fn join(self) -> Bytes {
        if self.more.is_empty() { self.first } else { self.more.freeze() }
    }
}

/// Whether the limit of an outer layer, such as `tower_http::limit` or `axum::extract::DefaultBodyLimit`, stopped a body.
pub(crate) fn is_length_limit(error: &(dyn std::error::Error + 'static)) -> bool {
    std::iter::successors(Some(error), |error| error.source()).any(|error| error.is::<LengthLimitError>())
}

pin_project! {
    /// The body that the inner service gets with [`wrap_bodies`](crate::ClientValidationLayer::wrap_bodies). It yields
    /// the bytes and trailers of the original one.
    pub struct RequestBody<B> {
        #[pin]
        state: RequestState<B>,
    }
}

pin_project! {
    #[project = RequestProjection]
    enum RequestState<B> {
        Untouched { #[pin] body: B },
        Replayed { data: Option<Bytes>, rest: Rest<B> },
    }
}

impl<B> Body for RequestBody<B>
where
    B: Body<Data = Bytes>,
    B::Error: Into<BoxError>,
{
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Self::Data>, Self::Error>>> {
        match self.project().state.project() {
            RequestProjection::Untouched { body } => body.poll_frame(cx).map_err(Into::into),
            RequestProjection::Replayed { data, rest } => {
                if let Some(data) = data.take() {
                    return Poll::Ready(Some(Ok(Frame::data(data))));
                }
                match rest {
                    Rest::End(trailers) => Poll::Ready(trailers.take().map(|trailers| Ok(Frame::trailers(trailers)))),
                    Rest::More(body) => body.as_mut().poll_frame(cx).map_err(Into::into),
                    Rest::Error(error) => Poll::Ready(error.take().map(Err)),
                }
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        match &self.state {
            RequestState::Untouched { body } => body.is_end_stream(),
            RequestState::Replayed { data: Some(_), .. } => false,
            RequestState::Replayed { data: None, rest } => match rest {
                Rest::End(trailers) => trailers.is_none(),
                Rest::More(body) => body.is_end_stream(),
                Rest::Error(error) => error.is_none(),
            },
        }
    }

    fn size_hint(&self) -> SizeHint {
        match &self.state {
            RequestState::Untouched { body } => body.size_hint(),
            RequestState::Replayed { data, rest } => {
                let read = data.as_ref().map_or(0, Bytes::len) as u64;
                let mut hint = match rest {
                    Rest::End(_) => return SizeHint::with_exact(read),
                    Rest::More(body) => body.size_hint(),
                    Rest::Error(_) => SizeHint::new(),
                };
                if let Some(upper) = hint.upper() {
                    hint.set_upper(upper.saturating_add(read));
                }
                hint.set_lower(hint.lower().saturating_add(read));
                hint
            }
        }
    }
}

impl<B> fmt::Debug for RequestBody<B> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RequestBody").finish_non_exhaustive()
    }
}

pin_project! {
    /// The response body with [`wrap_bodies`](crate::ClientValidationLayer::wrap_bodies): that of the inner service, or
    /// that of a refusal.
    pub struct ResponseBody<B> {
        #[pin]
        state: ResponseState<B>,
    }
}

pin_project! {
    #[project = ResponseProjection]
    enum ResponseState<B> {
        Inner { #[pin] body: B },
        Answer { #[pin] body: Full<Bytes> },
    }
}

impl<B: Body<Data = Bytes>> Body for ResponseBody<B> {
    type Data = Bytes;
    type Error = B::Error;

    fn poll_frame(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Self::Data>, Self::Error>>> {
        match self.project().state.project() {
            ResponseProjection::Inner { body } => body.poll_frame(cx),
            ResponseProjection::Answer { body } => body.poll_frame(cx).map_err(|error| match error {}),
        }
    }

    fn is_end_stream(&self) -> bool {
        match &self.state {
            ResponseState::Inner { body } => body.is_end_stream(),
            ResponseState::Answer { body } => body.is_end_stream(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match &self.state {
            ResponseState::Inner { body } => body.size_hint(),
            ResponseState::Answer { body } => body.size_hint(),
        }
    }
}

impl<B: Default> Default for ResponseBody<B> {
    fn default() -> Self {
        Self { state: ResponseState::Inner { body: B::default() } }
    }
}

impl<B> fmt::Debug for ResponseBody<B> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ResponseBody").finish_non_exhaustive()
    }
}
