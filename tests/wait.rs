//! Bounded waits: a defect fails a test instead of hanging it.

use std::time::Duration;

const BOUND: Duration = Duration::from_secs(120);

/// Between two questions of [`eventually`], for states that announce nothing.
const PAUSE: Duration = Duration::from_millis(5);

pub(crate) async fn in_time<T>(future: impl Future<Output = T>) -> T {
    tokio::time::timeout(BOUND, future).await.expect("it takes too long")
}

/// Asks until there is an answer.
pub(crate) async fn eventually<T>(ask: impl AsyncFn() -> Option<T>) -> T {
    in_time(async {
        loop {
            if let Some(answer) = ask().await {
                return answer;
            }
            tokio::time::sleep(PAUSE).await;
        }
    })
    .await
}
