"""Bounds of text requests: what could end or stall an engine is refused before any engine sees it.

An engine turns grammars, JSON schemas and lists of a request into structures of its own, at a cost that a small body
can make very large. All callers share the engine's process, so such a request would be everybody's outage. Each refusal
names the place in the body, the limit and the setting. ``docs/decisions/0024-bounds.md`` says where the limits come
from.
"""
