"""All routes of text engines, out of the tables of the APIs that graycat offers."""

from __future__ import annotations

from graycat.web.compat import anthropic, llamacpp, openai

TEXT_ROUTES = (*llamacpp.ROUTES, *openai.ROUTES, *anthropic.ROUTES)
