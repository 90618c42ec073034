"""graycat: one address in front of a fleet of GPU boxes."""

__version__ = "0.2.0"
