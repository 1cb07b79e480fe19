//! Two sources, asked one after the other.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use pin_project_lite::pin_project;

use super::{RegistryError, RegistrySource};
use crate::client::Client;

/// Two sources, of which the second is asked for clients that the first does not know. See [`RegistrySource::or`].
#[derive(Clone, Debug)]
pub struct Or<A, B> {
    first: A,
    second: Arc<B>,
}

impl<A, B> Or<A, B> {
    pub(super) fn new(first: A, second: B) -> Self {
        Self { first, second: Arc::new(second) }
    }
}

impl<A: RegistrySource, B: RegistrySource> RegistrySource for Or<A, B> {
    type Future = OrFuture<A, B>;

    fn find_client(&self, client_id: &str) -> Self::Future {
        OrFuture {
            state: State::First {
                future: self.first.find_client(client_id),
                second: Arc::clone(&self.second),
                client_id: client_id.into(),
            },
        }
    }
}

pin_project! {
    /// The lookup of [`Or`].
    pub struct OrFuture<A: RegistrySource, B: RegistrySource> {
        #[pin]
        state: State<A::Future, B, B::Future>,
    }
}

pin_project! {
    #[project = StateProjection]
    enum State<FA, B, FB> {
        First { #[pin] future: FA, second: Arc<B>, client_id: Box<str> },
        Second { #[pin] future: FB },
    }
}

impl<A: RegistrySource, B: RegistrySource> Future for OrFuture<A, B> {
    type Output = Result<Option<Arc<Client>>, RegistryError>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let mut state = self.project().state;
        loop {
            let future = match state.as_mut().project() {
                StateProjection::First { future, second, client_id } => match ready!(future.poll(cx)) {
                    Ok(None) => second.find_client(client_id),
                    found_or_failed => return Poll::Ready(found_or_failed),
                },
                StateProjection::Second { future } => return future.poll(cx),
            };
            state.set(State::Second { future });
        }
    }
}

impl<A: RegistrySource, B: RegistrySource> std::fmt::Debug for OrFuture<A, B> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("OrFuture").finish_non_exhaustive()
    }
}
