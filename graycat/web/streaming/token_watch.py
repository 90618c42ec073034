"""Ends the requests of API tokens that were revoked or have expired while they wait for an answer.

A request was let in when it came. Its stream may last for minutes after that, in any web process.
"""

from __future__ import annotations

import logging

from graycat.auth.minted import MintedTokens
from graycat.auth.tokens import ApiToken
from graycat.errors import BrokerUnavailable
from graycat.loops.threads import GuardedThread
from graycat.loops.unexpected import guarded
from graycat.web.streaming.hub import EventHub
from graycat.web.streaming.subscription import Subscription

logger = logging.getLogger(__name__)

#: Seconds between two looks at the tokens of the requests that wait.
INTERVAL_S = 1.0


class TokenWatch:
    """Looks at the minted tokens of all requests that wait, in one round trip; without any it asks nothing.

    The requests of a token's players end with it. Configured tokens cannot be revoked while a process runs.
    """

    def __init__(self, hub: EventHub, minted: MintedTokens) -> None:
        self._hub = hub
        self._minted = minted
        self._has_noted_ends = False
        self.loop = GuardedThread("token watch", self._run)

    def start(self) -> None:
        """Start to look, in a thread (a greenlet under gevent)."""
        self.loop.start()

    def _run(self) -> None:
        self.loop.rest()
        while not self.loop.wait_for_stop(INTERVAL_S):
            self.loop.beat()
            with guarded("token watch"):
                try:
                    self._note_ends()
                    self.step()
                except BrokerUnavailable:
                    # Nor can anybody revoke a token.
                    logger.warning("broker unavailable", extra={"duty": "token watch"})
            self.loop.rest()

    def _note_ends(self) -> None:
        """See once that the tasks of tokens which an earlier release has minted end, too. Raises BrokerUnavailable."""
        if self._has_noted_ends:
            return
        # Requests of other tokens are ended all the same.
        with guarded("token watch", let_through=(BrokerUnavailable,)):
            self._minted.note_ends()
            self._has_noted_ends = True

    def step(self) -> int:
        """End the requests whose tokens may not call any more; return how many. Raises BrokerUnavailable."""
        waiting: dict[str, list[Subscription]] = {}
        origins: dict[str, ApiToken] = {}
        for subscription in self._hub.subscriptions():
            token = subscription.token
            if token is None or subscription.refusal is not None:
                continue
            origin = token.parent or token
            if origin.prefix:
                origins[origin.prefix] = origin
                waiting.setdefault(origin.prefix, []).append(subscription)

        ended = 0
        for prefix, refusal in self._minted.find_ended(origins).items():
            for subscription in waiting[prefix]:
                subscription.refuse(refusal)
                ended += 1
            logger.warning("requests ended: their API token did", extra={"prefix": prefix, "reason": refusal.type})
        return ended
