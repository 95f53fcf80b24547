//! A host that breaks a rule. No real one does; a proof that does not notice proves nothing.

use std::ops::Range;
use std::path::PathBuf;

/// Which rule is broken.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Lie {
    /// Syncs of this path do nothing, as far as their numbers are among these, counted from zero among the
    /// syncs that had something to do.
    ForgetsSyncs(PathBuf, Range<usize>),
    /// A rename over something removes that first, as `ln -sf` does.
    RenamesInTwoSteps,
    /// Room that was kept in advance is not there.
    KeepsNoRoom,
    /// Opened secrets are not removed.
    KeepsSecrets,
    /// CLOCK_BOOTTIME follows the wall clock.
    CountsByTheWall,
}
