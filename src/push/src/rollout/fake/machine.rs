//! What a host does alone, once it has been told to switch.

use std::time::Duration;

use push_wire::effect::Effect;
use push_wire::journal::{Cause, Evidence, Probation, Progress, State};
use push_wire::name::{GenerationId, TransactionId};

use super::{Fault, Way, World, manifest};

/// How long a host takes for one step.
const STEP: Duration = Duration::from_millis(20);

/// Longer than anybody waits.
const FOREVER: Duration = Duration::from_secs(1_000_000);

/// Carries a transaction out, watched or not.
pub async fn transact(world: World, name: String, id: TransactionId, confirm_ms: Option<u64>) {
    tell(&world, &name, &id, Progress::State(State::Switching));
    tokio::time::sleep(STEP).await;
    tell(&world, &name, &id, Progress::Effect(Effect::ReloadNginx));
    let probation = Probation {
        boot_id: "boot".into(),
        deadline_ms: confirm_ms,
    };
    tell(
        &world,
        &name,
        &id,
        Progress::State(State::Probation(probation)),
    );
    tokio::time::sleep(STEP).await;
    let health = Progress::Health {
        app: "api".into(),
        passed: 1,
        wanted: 1,
        answer: None,
    };
    tell(&world, &name, &id, health);
    let is_restoring = world.host(&name, |host| host.way == Way::Back);
    let ending = if is_restoring && world.hits(&name, Fault::RestageTakenBack) {
        State::TakenBack(Cause::Restarted)
    } else if is_restoring {
        State::Committed
    } else {
        world.host(&name, |host| host.ending.clone())
    };
    let ending = match ending {
        State::Committed => trial(&world, &name, &id, confirm_ms).await,
        other => other,
    };
    if let State::TakenBack(cause) = &ending {
        let evidence = Evidence {
            subject: "api".into(),
            ..Evidence::default()
        };
        tell(&world, &name, &id, Progress::Evidence(Box::new(evidence)));
        tell(
            &world,
            &name,
            &id,
            Progress::State(State::TakingBack(cause.clone())),
        );
        tokio::time::sleep(STEP).await;
    }
    world.host(&name, |host| {
        if ending == State::Committed {
            let generation = host.staged.unwrap_or(GenerationId(0)).0;
            host.manifest = manifest(generation, "shop");
        }
    });
    tell(&world, &name, &id, Progress::State(ending));
}

/// Waits for what a commit still needs.
async fn trial(world: &World, name: &str, id: &TransactionId, confirm_ms: Option<u64>) -> State {
    let hangs = world.hits(name, Fault::Hangs);
    let is_deaf = world.hits(name, Fault::DeafToTakeBack);
    let decided = world.when(name, |host| {
        let running = &host.running[id];
        if running.is_to_be_taken_back && !is_deaf {
            Some(State::TakenBack(Cause::Asked))
        } else if !hangs && (confirm_ms.is_none() || running.is_confirmed) {
            Some(State::Committed)
        } else {
            None
        }
    });
    let within = match confirm_ms {
        Some(ms) if !hangs => Duration::from_millis(ms),
        Some(_) | None => FOREVER,
    };
    let confirmed = async {
        world
            .when(name, |host| host.running[id].is_confirmed.then_some(()))
            .await;
        tell(world, name, id, Progress::Confirmed);
        std::future::pending().await
    };
    let decided = async {
        tokio::select! {
            biased;
            never = confirmed => never,
            state = decided => state,
        }
    };
    match tokio::time::timeout(within, decided).await {
        Ok(state) => state,
        Err(_) => State::TakenBack(Cause::Unconfirmed),
    }
}

/// Journals and tells.
fn tell(world: &World, name: &str, id: &TransactionId, progress: Progress) {
    world.host(name, |host| {
        let running = host.running.get_mut(id).unwrap();
        if let Progress::State(state) = &progress {
            running.state = state.clone();
        }
        running.progress.push(progress);
    });
    world.publish();
}
