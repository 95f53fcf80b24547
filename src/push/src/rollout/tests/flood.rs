//! Packs larger than memory may be: only a bounded part is ever read ahead of what hosts took.

use std::sync::atomic::{AtomicU64, Ordering};

use super::*;
use crate::conversation::IN_FLIGHT_BYTES_MAX;

/// A pack that counts how much of it has been read.
struct Counted {
    bytes: u64,
    read: AtomicU64,
    world: World,
    ahead: AtomicU64,
    hosts: u64,
}

impl PackSource for Counted {
    fn digest(&self) -> Digest {
        Digest::of("counted")
    }
    fn bytes(&self) -> u64 {
        self.bytes
    }
    fn read_at(&self, buffer: &mut [u8], _: u64) -> io::Result<usize> {
        let read = self.read.fetch_add(buffer.len() as u64, Ordering::SeqCst) + buffer.len() as u64;
        let taken: u64 = (1..=self.hosts)
            .map(|number| self.world.host(&format!("h{number}"), |host| host.taken))
            .sum();
        self.ahead
            .fetch_max(read.saturating_sub(taken), Ordering::SeqCst);
        Ok(buffer.len())
    }
}

#[tokio::test(start_paused = true)]
async fn no_more_of_a_pack_is_in_memory_than_the_bound_for_each_host() {
    let hosts = 4;
    let scene = Scene::of(hosts);
    let pack = Arc::new(Counted {
        bytes: 64 << 20,
        read: AtomicU64::new(0),
        world: scene.world.clone(),
        ahead: AtomicU64::new(0),
        hosts: hosts as u64,
    });
    let mut scene = scene.wanting(|wanted| wanted.pack = Arc::clone(&pack) as Arc<dyn PackSource>);
    for host in scene.hosts.clone() {
        scene = scene.host(host.as_str(), |host| {
            host.lacks = vec![Digest::of("a file")];
        });
    }
    let shown = scene.push().await;
    assert_eq!(shown.words(), ["committed"; 4]);
    assert_eq!(
        pack.read.load(Ordering::SeqCst),
        4 * (64 << 20),
        "every host got all of it"
    );
    let ahead = pack.ahead.load(Ordering::SeqCst);
    let bound = hosts as u64 * IN_FLIGHT_BYTES_MAX as u64;
    assert!(
        ahead <= bound,
        "{ahead} bytes were read ahead, the bound is {bound}"
    );
}
