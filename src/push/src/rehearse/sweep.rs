//! Taking fleets down, those of this process and those of processes that are gone. Works from a
//! fleet's folder alone, so that a damaged record keeps nothing up.

use std::fs::{self, File, TryLockError};
use std::os::unix::fs::DirBuilderExt;
use std::time::{Duration, Instant};

use super::error::{Error, IoExt};
use super::place::Place;
use super::record::{FLEETS_MAX, FleetFolder, FleetNumber, FleetRecord, Keep};
use super::{host, mounts, network};

/// How long other processes may take to claim a number or to look at the fleets: milliseconds.
const TURN_WITHIN: Duration = Duration::from_secs(10);

/// How often the turn is asked for.
const TURN_POLL: Duration = Duration::from_millis(20);

/// What [`take_down_all`] and [`take_down`] did.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Swept {
    /// Fleets of which nothing is left.
    pub removed: Vec<FleetNumber>,
    /// Fleets that a running process holds; they go when it ends.
    pub in_use: Vec<FleetNumber>,
}

/// The fleets of this machine: those in use, those kept, and those whose process has died.
///
/// # Errors
/// [`Error::Record`] for a damaged record.
pub fn fleets(place: &Place) -> Result<Vec<FleetRecord>, Error> {
    folders(place)
        .filter_map(|(_, folder)| folder.read().transpose())
        .collect()
}

/// Takes down every fleet that no running process holds, the kept ones included.
///
/// # Errors
/// [`Error::Leftovers`] of the first fleet that cannot be removed; the others are all the same.
pub fn take_down_all(place: &Place) -> Result<Swept, Error> {
    take_down_where(place, folders(place), |_| true)
}

/// Takes down one fleet, unless a running process holds it.
///
/// # Errors
/// [`Error::Leftovers`]. A fleet that is not there is no error; then [`Swept`] is empty.
pub fn take_down(place: &Place, fleet: FleetNumber) -> Result<Swept, Error> {
    let its = folders(place).filter(|(number, _)| *number == fleet);
    take_down_where(place, its, |_| true)
}

/// Takes down the fleets whose process has died without doing so. One whose record cannot be read
/// may be one that the operator keeps, so it stays.
pub(super) fn take_down_abandoned(place: &Place) -> Result<Swept, Error> {
    take_down_where(place, folders(place), |folder| match folder.read() {
        Ok(None) => true,
        Ok(Some(record)) => record.keep == Keep::Guarded,
        Err(_) => false,
    })
}

/// Removes everything of a fleet. What is not there is removed already, so that it can be done
/// again after it failed.
pub(super) fn dismantle(fleet: FleetNumber, folder: &FleetFolder) -> Result<(), Error> {
    let mut problems: Vec<Error> = std::thread::scope(|scope| {
        let hosts: Vec<_> = folder
            .hosts()
            .into_iter()
            .map(|(index, its)| scope.spawn(move || host::dismantle(fleet, index, &its)))
            .collect();
        hosts
            .into_iter()
            .filter_map(|host| host.join().ok())
            .flatten()
            .collect()
    });
    problems.extend(network::remove_bridge(fleet).err());
    if problems.is_empty() {
        // The folder goes last: as long as something is left there is something to find it by.
        problems.extend(mounts::remove(&folder.0).err());
    }
    if problems.is_empty() {
        return Ok(());
    }
    Err(Error::Leftovers {
        fleet,
        problems: problems.iter().map(ToString::to_string).collect(),
    })
}

/// Waits for the turn to claim or to judge fleets; it ends when the file is closed.
pub(super) fn turn(place: &Place) -> Result<File, Error> {
    fs::DirBuilder::new()
        .recursive(true)
        .mode(0o755)
        .create(place.fleets())
        .doing("making", place.fleets())?;
    let path = place.fleets().join("turn.lock");
    let file = File::options()
        .create(true)
        .truncate(false)
        .write(true)
        .open(&path)
        .doing("opening", &path)?;
    let deadline = Instant::now() + TURN_WITHIN;
    loop {
        match file.try_lock() {
            Ok(()) => return Ok(file),
            Err(TryLockError::WouldBlock) if Instant::now() < deadline => {
                std::thread::sleep(TURN_POLL);
            }
            Err(error) => return Err(std::io::Error::from(error)).doing("locking", &path),
        }
    }
}

fn take_down_where(
    place: &Place,
    candidates: impl Iterator<Item = (FleetNumber, FleetFolder)>,
    wanted: impl Fn(&FleetFolder) -> bool,
) -> Result<Swept, Error> {
    let mut swept = Swept::default();
    let mut first_problem = None;
    for (number, folder) in candidates {
        let Some(_owner) = adopt(place, &folder)? else {
            swept.in_use.push(number);
            continue;
        };
        if !wanted(&folder) {
            continue;
        }
        match dismantle(number, &folder) {
            Ok(()) => swept.removed.push(number),
            Err(problem) => first_problem = first_problem.or(Some(problem)),
        }
    }
    match first_problem {
        None => Ok(swept),
        Some(problem) => Err(problem),
    }
}

/// Becomes the owner of a fleet that has none. None: it has one.
fn adopt(place: &Place, folder: &FleetFolder) -> Result<Option<File>, Error> {
    let _turn = turn(place)?;
    let path = folder.owner();
    let file = File::options()
        .create(true)
        .truncate(false)
        .write(true)
        .open(&path)
        .doing("opening", &path)?;
    match file.try_lock() {
        Ok(()) => Ok(Some(file)),
        Err(TryLockError::WouldBlock) => Ok(None),
        Err(TryLockError::Error(error)) => Err(error).doing("locking", &path),
    }
}

fn folders(place: &Place) -> impl Iterator<Item = (FleetNumber, FleetFolder)> {
    (0..FLEETS_MAX)
        .map(|number| {
            (
                FleetNumber(number),
                FleetFolder(place.fleets().join(number.to_string())),
            )
        })
        .filter(|(_, folder)| folder.0.exists())
}
