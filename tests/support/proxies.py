"""A TCP proxy that makes a network bad: slow, silent in one direction or both, or cut."""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections.abc import Coroutine
from typing import Any, Literal

Direction = Literal["there", "back"]
CHUNK_BYTES = 65536
#: Seconds that starting, and each change, may take.
CALL_S = 10.0


class Proxy:
    """Hands connections to its port on to another port of this machine.

    ``there``: from the client to the server; ``back``: its answers. What is held in a direction is carried when that
    direction is open again, as TCP does behind a network that was away: neither side learns of it meanwhile.
    """

    def __init__(self, target: int) -> None:
        self._target = target
        #: Seconds that each piece of data takes in the direction of the server.
        self.delay_s = 0.0
        self.port = 0
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)
        self._server: asyncio.Server | None = None
        self._open: dict[Direction, asyncio.Event] = {}
        self._writers: set[asyncio.StreamWriter] = set()

    def start(self) -> None:
        """Listen; ``port`` is known then."""
        self._thread.start()
        self._call(self._start())

    def hold(self, *directions: Direction) -> None:
        """Carry nothing in these directions, until ``release``."""
        for direction in directions:
            self._loop.call_soon_threadsafe(self._open[direction].clear)

    def release(self) -> None:
        """Carry everything again, also what was held."""
        for event in self._open.values():
            self._loop.call_soon_threadsafe(event.set)

    def drop(self) -> None:
        """End all connections at once, as a machine between that starts anew: what was held is lost."""
        self._call(self._drop())

    def stop(self) -> None:
        """End all connections and listen no more."""
        self._call(self._stop())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(CALL_S)
        self._loop.close()

    def _call(self, work: Coroutine[Any, Any, None]) -> None:
        asyncio.run_coroutine_threadsafe(work, self._loop).result(CALL_S)

    async def _start(self) -> None:
        self._open = {"there": asyncio.Event(), "back": asyncio.Event()}
        for event in self._open.values():
            event.set()
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0, backlog=512)
        self.port = int(self._server.sockets[0].getsockname()[1])

    async def _drop(self) -> None:
        for writer in list(self._writers):
            writer.transport.abort()

    async def _stop(self) -> None:
        assert self._server is not None
        self._server.close()
        await self._drop()
        tasks = asyncio.all_tasks() - {asyncio.current_task()}
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _serve(self, from_client: asyncio.StreamReader, to_client: asyncio.StreamWriter) -> None:
        self._writers.add(to_client)
        try:
            # A network that carries nothing brings no server about either.
            await self._open["there"].wait()
            from_server, to_server = await asyncio.open_connection("127.0.0.1", self._target)
        except (OSError, asyncio.CancelledError):
            to_client.transport.abort()
            self._writers.discard(to_client)
            return
        self._writers.add(to_server)
        try:
            await asyncio.gather(
                self._carry("there", from_client, to_server), self._carry("back", from_server, to_client)
            )
        except asyncio.CancelledError:
            # Python 3.11 would print that the server's task was cancelled.
            pass
        finally:
            for writer in (to_client, to_server):
                self._writers.discard(writer)
                writer.transport.abort()

    async def _carry(self, direction: Direction, source: asyncio.StreamReader, target: asyncio.StreamWriter) -> None:
        """Carry one direction until it ends, and end it at the other side."""
        with contextlib.suppress(OSError):
            while data := await source.read(CHUNK_BYTES):
                if direction == "there" and self.delay_s:
                    await asyncio.sleep(self.delay_s)
                await self._open[direction].wait()
                target.write(data)
                await target.drain()
        await self._open[direction].wait()
        with contextlib.suppress(OSError, RuntimeError):
            target.write_eof()
