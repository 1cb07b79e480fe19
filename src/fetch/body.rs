//! Reads response bodies up to a limit.

use bytes::{Buf, BufMut, Bytes, BytesMut};
use http_body::Body;
use http_body_util::BodyExt;
use tower::BoxError;

pub(crate) enum BodyError {
    /// It exceeds the limit.
    TooLarge,
    /// The connection was lost.
    Broken(BoxError),
}

/// Reads a whole body and counts its bytes, because an announced length may be wrong.
pub(crate) async fn read<B>(body: B, max_bytes: usize) -> Result<Bytes, BodyError>
where
    B: Body,
    B::Error: Into<BoxError>,
{
    if body.size_hint().lower() > max_bytes as u64 {
        return Err(BodyError::TooLarge);
    }
    let mut body = std::pin::pin!(body);
    let mut read = BytesMut::new();
    while let Some(frame) = body.frame().await {
        let frame = frame.map_err(|error| BodyError::Broken(error.into()))?;
        if let Ok(data) = frame.into_data() {
            if data.remaining() > max_bytes - read.len() {
                return Err(BodyError::TooLarge);
            }
            read.put(data);
        }
    }
    Ok(read.freeze())
}
