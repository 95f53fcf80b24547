//! Carries out what is derived from the generation in effect: what systemd, nginx and the kernel hold
//! in memory, and the opened secrets. What is to be run, and in which order, `push_wire::effect`
//! decides; this module only knows how. Every effect can be run again at any time.

use std::io;
use std::time::Duration;

use push_wire::effect::{Effect, effects};
use push_wire::manifest::{Manifest, Runs, Unit};
use push_wire::name::{AppName, FileName, UnitName, UserName};

use crate::before;
use crate::bundle;
use crate::layout::Layout;
use crate::machine::{self, Access, Clock, Disk, Machine, Tool, ToolError, World};
use crate::store::sealed;

/// How long nginx has until new workers serve the new generation.
const NGINX_WAIT: Duration = Duration::from_secs(5);

/// The pause between two looks at what nginx serves.
const NGINX_LOOK: Duration = Duration::from_millis(50);

/// The unit of nginx on Debian and Ubuntu.
const NGINX: &str = "nginx.service";

/// The mode of an opened secret.
const SECRET_MODE: u32 = 0o400;

/// Why an effect did not take hold.
#[derive(Debug, thiserror::Error)]
pub enum EffectError {
    /// A secret does not open.
    #[error("the secret {name} of {app} cannot be opened: {why}")]
    Secret {
        /// Its app.
        app: AppName,
        /// Its name.
        name: FileName,
        /// The reason; never content.
        why: String,
    },
    /// A tool failed.
    #[error(transparent)]
    Tool(#[from] ToolError),
    /// nginx took the order and went on serving something else.
    #[error(
        "nginx still serves {} and not generation {wanted}; its error log says why",
        found.map_or("nothing of push".to_owned(), |found| format!("generation {found}"))
    )]
    Nginx {
        /// The generation that new workers should serve.
        wanted: u64,
        /// What they serve.
        found: Option<u64>,
    },
    /// The disk failed.
    #[error(transparent)]
    Disk(#[from] io::Error),
}

impl EffectError {
    /// What to do about it.
    pub fn help(&self) -> &'static str {
        match self {
            Self::Secret { .. } => {
                "push again, so that the secret is sealed to this host's key anew"
            }
            Self::Tool(_) => {
                "look at the output above; `journalctl -b -n 100` on the host shows more"
            }
            Self::Nginx { .. } => {
                "see `journalctl -u nginx` and /var/log/nginx/error.log on the host"
            }
            Self::Disk(_) => "look at the disk of the host: `df -h`, `dmesg`",
        }
    }
}

/// Carries out one effect of the generation that `to` declares, which is the one in effect.
pub fn carry_out<M: Machine>(
    machine: &mut M,
    layout: &Layout,
    to: &Manifest,
    effect: &Effect,
) -> Result<(), EffectError> {
    match effect {
        Effect::Stop(unit) => run(machine, &Tool::Stop(unit.clone())),
        Effect::OpenSecrets => open_secrets(machine, layout, to),
        Effect::DaemonReload => run(machine, &Tool::DaemonReload),
        Effect::Sysctl => run(machine, &Tool::Sysctl),
        Effect::LoadFirewall => load_firewall(machine, layout, to),
        Effect::RemoveFirewall => run(machine, &Tool::RemoveFirewall),
        Effect::RestartSocket(unit) => restart_socket(machine, to, unit),
        Effect::Restart(unit) => restart(machine, unit),
        Effect::Reload(unit) => run(machine, &Tool::Reload(unit.clone())),
        Effect::RestartForeign(unit) => run(machine, &Tool::TryRestart(unit.clone())),
        Effect::ReloadForeign(unit) => run(machine, &Tool::TryReload(unit.clone())),
        Effect::ReloadNginx => reload_nginx(machine, to),
    }
}

/// Derives at boot what does not outlive a boot, or may have been read too early: secrets, firewall,
/// and what systemd started from texts that were taken back since. It waits for no unit, because the
/// units wait for it; save for the system's own firewall, which alone comes before it.
pub fn carry_out_at_boot<M: Machine>(
    machine: &mut M,
    layout: &Layout,
    (gone, to): (&Manifest, &Manifest),
) -> Result<(), EffectError> {
    // What fails keeps nothing else from being done: a secret that does not open leaves no host without its
    // firewall, and neither leaves one with the units of what is gone.
    let opened = open_secrets(machine, layout, to);
    let loaded = load_own_firewall_again(machine, layout, (gone, to));
    let walled = if to.nftables().is_some() {
        load_firewall(machine, layout, to)
    } else if gone.nftables().is_some() {
        run(machine, &Tool::RemoveFirewall)
    } else {
        Ok(())
    };
    start_at_boot(machine, (gone, to))?;
    opened.and(loaded).and(walled)
}

/// Lets systemd have what is in effect where it has read something else.
fn start_at_boot<M: World>(
    machine: &mut M,
    (gone, to): (&Manifest, &Manifest),
) -> Result<(), EffectError> {
    if gone.generation == to.generation {
        return Ok(());
    }
    run(machine, &Tool::DaemonReload)?;
    let (old, new) = (gone.units(), to.units());
    let always = |unit: &Unit| unit.runs == Runs::Always;
    for (&unit, before) in &old {
        let calls_only = new
            .get(unit)
            .is_some_and(|now| always(before) && !always(now));
        if calls_only || !new.contains_key(unit) {
            run(machine, &Tool::StopLater(unit.clone()))?;
        }
    }
    for (&unit, declared) in &new {
        if declared.runs == Runs::Always && !declared.wanted_by.is_empty() {
            run(machine, &Tool::RestartLater(unit.clone()))?;
        }
    }
    Ok(())
}

/// The system's own firewall is loaded before a recovery, from texts that may have been taken back
/// since and let nobody in.
fn load_own_firewall_again<M: Machine>(
    machine: &mut M,
    layout: &Layout,
    (gone, to): (&Manifest, &Manifest),
) -> Result<(), EffectError> {
    effects(gone, to)
        .iter()
        .filter(|effect| effect.loads_own_firewall())
        .try_for_each(|effect| carry_out(machine, layout, to, effect))
}

fn run<M: World>(machine: &mut M, tool: &Tool) -> Result<(), EffectError> {
    Ok(machine.run(tool)?)
}

/// A unit that failed often enough stays dead until its failures are forgotten.
fn restart<M: World>(machine: &mut M, unit: &UnitName) -> Result<(), EffectError> {
    run(machine, &Tool::ResetFailed(unit.clone()))?;
    run(machine, &Tool::Restart(unit.clone()))
}

/// A unit that push does not declare, and that died of what it was told, is started again.
pub fn revive<M: World>(machine: &mut M, unit: &UnitName) -> Result<(), EffectError> {
    let states = machine.units(&[unit.clone()].into())?;
    if states.iter().any(before::has_died) {
        restart(machine, unit)?;
    }
    Ok(())
}

/// systemd does not start a socket whose service runs, and one that listens starts its service again.
fn restart_socket<M: World>(
    machine: &mut M,
    to: &Manifest,
    socket: &UnitName,
) -> Result<(), EffectError> {
    run(machine, &Tool::Stop(socket.clone()))?;
    let service = format!("{}.service", socket.stem());
    if let Some(&service) = to.units().keys().find(|unit| unit.as_str() == service) {
        run(machine, &Tool::Stop(service.clone()))?;
    }
    restart(machine, socket)
}

fn load_firewall<M: World>(
    machine: &mut M,
    layout: &Layout,
    to: &Manifest,
) -> Result<(), EffectError> {
    let file = layout.generation(to.generation).firewall();
    run(machine, &Tool::LoadFirewall(file))
}

/// An order that nginx took proves nothing: only what a new connection is served does. One that does not run,
/// and is to serve nothing of push's, is let be: it may not be able to.
fn reload_nginx<M: World + Clock>(machine: &mut M, to: &Manifest) -> Result<(), EffectError> {
    let wanted = (!to.sites().is_empty()).then_some(to.generation.0);
    if wanted.is_none() && matches!(machine.nginx_serves(), Ok(None)) && is_nginx_down(machine)? {
        return Ok(());
    }
    run(machine, &Tool::ReloadNginx)?;
    let deadline_ms = machine.boottime_ms() + machine::milliseconds(NGINX_WAIT);
    loop {
        let found = machine.nginx_serves();
        if matches!(&found, Ok(found) if *found == wanted) {
            return Ok(());
        }
        if machine.boottime_ms() >= deadline_ms {
            return Err(EffectError::Nginx {
                wanted: to.generation.0,
                found: found.ok().flatten(),
            });
        }
        machine.sleep(NGINX_LOOK);
    }
}

fn is_nginx_down<M: World>(machine: &M) -> Result<bool, EffectError> {
    let Ok(nginx) = NGINX.parse() else {
        return Ok(false);
    };
    let states = machine.units(&[nginx].into())?;
    Ok(states.iter().any(before::is_down))
}

/// Opens every secret of a generation for its owner alone, each whole or not at all, and removes the
/// others. One that does not open withholds none from the other apps, and is an error all the same.
fn open_secrets<M: Disk + World>(
    machine: &mut M,
    layout: &Layout,
    to: &Manifest,
) -> Result<(), EffectError> {
    let folder = Access::passage();
    let secrets = to.secrets();
    if !secrets.is_empty() {
        machine::folders(machine, &layout.secrets(), &folder)?;
    }
    let mut all = Ok(());
    for ((app, name), secret) in &secrets {
        let opened = open_secret(machine, layout, (to, app, name), &secret.owner);
        all = all.and(opened);
    }
    all?;
    Ok(forget_secrets(machine, layout, to)?)
}

fn open_secret<M: Disk + World>(
    machine: &mut M,
    layout: &Layout,
    (to, app, name): (&Manifest, &AppName, &FileName),
    owner: &UserName,
) -> Result<(), EffectError> {
    machine.folder(&layout.app_secrets(app), &Access::passage())?;
    let opened = open(machine, layout, (to, app, name))?;
    let place = layout.secret(app, name);
    Ok(machine::replace(machine, &place, &opened, &access(owner))?)
}

/// Removes every opened secret that a generation does not declare, and what was not opened to its end.
pub fn forget_secrets<M: Disk>(
    machine: &mut M,
    layout: &Layout,
    kept: &Manifest,
) -> io::Result<()> {
    let secrets = kept.secrets();
    for app in machine.list(&layout.secrets())? {
        let folder = layout.secrets().join(&app);
        let declared = |file: &str| {
            secrets
                .keys()
                .any(|(owner, name)| owner.as_str() == app && name.as_str() == file)
        };
        if !secrets.keys().any(|(owner, _)| owner.as_str() == app) {
            machine.remove_folder(&folder)?;
            continue;
        }
        for file in machine.list(&folder)?.iter().filter(|file| !declared(file)) {
            machine.remove(&folder.join(file))?;
        }
    }
    Ok(())
}

fn access(owner: &UserName) -> Access {
    Access {
        mode: SECRET_MODE,
        owner: owner.clone(),
        group: owner.clone(),
    }
}

fn open<M: Disk + World>(
    machine: &M,
    layout: &Layout,
    (to, app, name): (&Manifest, &AppName, &FileName),
) -> Result<zeroize::Zeroizing<Vec<u8>>, EffectError> {
    let wrong = |why: String| EffectError::Secret {
        app: app.clone(),
        name: name.clone(),
        why,
    };
    let sealed = sealed::sealed(machine, layout, (to, app, name))
        .map_err(|error| wrong(error.to_string()))?
        .ok_or_else(|| wrong("it is not the one that was staged".to_owned()))?;
    bundle::open(machine, &sealed).map_err(wrong)
}
