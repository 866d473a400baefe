"""The gate: what was approved, whether anything changed, whether it matters, and in which layer."""
