//! The filters that own templates write values with.

use minijinja::Environment;

/// Makes every filter known to `environment`.
pub(super) fn register(_environment: &mut Environment<'static>) {}
