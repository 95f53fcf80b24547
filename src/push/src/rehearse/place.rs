//! Where rehearsals keep things on this machine: images in the operator's cache, fleets under
//! `/var/lib`. Knows the folders and nothing of what is in them.

use std::path::{Path, PathBuf};

use etcetera::BaseStrategy;

use super::error::Error;

/// Fleets live here: on a disk rather than in `/run`, because a host's disk may hold gigabytes,
/// and because what is written on a tmpfs costs nothing to sync, which would flatter the timings.
const FLEETS: &str = "/var/lib/push-rehearsal";

/// The folders that rehearsals on one machine share.
#[derive(Debug, Clone)]
pub struct Place {
    images: PathBuf,
    fleets: PathBuf,
}

impl Place {
    /// The folders of the operator and machine that this runs on.
    ///
    /// # Errors
    /// [`Error::NoHome`] when the operator's home folder is unknown.
    pub fn of_this_machine() -> Result<Self, Error> {
        let base = etcetera::choose_base_strategy().map_err(|error| Error::NoHome {
            reason: error.to_string(),
        })?;
        Ok(Self {
            images: base.cache_dir().join("push").join("rehearsal"),
            fleets: PathBuf::from(FLEETS),
        })
    }

    /// Other folders, for tests of this module.
    pub fn at(images: impl Into<PathBuf>, fleets: impl Into<PathBuf>) -> Self {
        Self {
            images: images.into(),
            fleets: fleets.into(),
        }
    }

    /// The cached root file systems.
    pub fn images(&self) -> &Path {
        &self.images
    }

    /// One folder a fleet.
    pub fn fleets(&self) -> &Path {
        &self.fleets
    }
}
