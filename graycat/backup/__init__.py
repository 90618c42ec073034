"""Backups of what the broker holds of graycat: read whole at one moment, kept in a file, written to another broker."""
