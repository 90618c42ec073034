"""All routes of text engines, joined out of the tables of the APIs that graycat offers.

To add a route, add a row to ``ROUTES`` in ``llamacpp.py``, ``openai.py`` or ``anthropic.py``, and its kind of task in
``graycat/queue/kinds.py``.
"""

from __future__ import annotations

from graycat.web.compat import anthropic, llamacpp, openai

TEXT_ROUTES = (*llamacpp.ROUTES, *openai.ROUTES, *anthropic.ROUTES)
