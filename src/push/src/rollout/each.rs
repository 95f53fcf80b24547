//! Many hosts at once, but not too many.

use std::collections::BTreeMap;
use std::sync::Arc;

use tokio::sync::Semaphore;
use tokio::task::JoinSet;

use crate::name::HostName;

/// Does `work` for each host, for at most `parallel` of them at once, and returns what came of it.
/// A panic in one of them goes on in the caller: it is a mistake of ours, not a host's.
pub async fn each<T, R, W, F>(
    hosts: BTreeMap<HostName, T>,
    parallel: usize,
    work: W,
) -> BTreeMap<HostName, R>
where
    T: Send + 'static,
    R: Send + 'static,
    W: Fn(HostName, T) -> F,
    F: Future<Output = R> + Send + 'static,
{
    let turns = Arc::new(Semaphore::new(parallel.max(1)));
    let mut running = JoinSet::new();
    for (host, value) in hosts {
        let turns = Arc::clone(&turns);
        let job = work(host.clone(), value);
        running.spawn(async move {
            // The semaphore is never closed, so there is always a turn.
            let _turn = turns.acquire_owned().await;
            (host, job.await)
        });
    }
    let mut done = BTreeMap::new();
    while let Some(ended) = running.join_next().await {
        match ended {
            Ok((host, result)) => {
                done.insert(host, result);
            }
            Err(error) => {
                if let Ok(panic) = error.try_into_panic() {
                    std::panic::resume_unwind(panic);
                }
            }
        }
    }
    done
}
