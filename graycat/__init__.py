"""graycat: one address in front of a fleet of GPU boxes."""

__version__ = "0.1.0"
