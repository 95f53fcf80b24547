//! Sealed secrets: age files to opened values, which cannot be shown, and back to sealed bytes.
