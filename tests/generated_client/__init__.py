"""A client that a program has generated from /openapi.json, at work: ``make generated-client``."""
