"""Image engines from public packages, started for real: ``make image-engines``."""
