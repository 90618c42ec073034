"""Load on raw sockets: cheap enough to share two cores with what it measures."""

from __future__ import annotations

import asyncio
import json
import statistics
import time
from dataclasses import dataclass, field
from urllib.parse import urlsplit


@dataclass
class Result:
    """What a load run saw; times in milliseconds."""

    seconds: float = 0.0
    times_ms: list[float] = field(default_factory=list)

    @property
    def rate(self) -> float:
        """Return answers (or tokens) a second."""
        return len(self.times_ms) / self.seconds

    def percentile(self, percent: int) -> float:
        """Return a percentile of the times."""
        return statistics.quantiles(self.times_ms, n=100, method="inclusive")[percent - 1]


def request(url: str, token: str, path: str, body: dict[str, object]) -> bytes:
    """Return the bytes of one POST on a kept connection."""
    data = json.dumps(body).encode()
    head = (
        f"POST {path} HTTP/1.1\r\nHost: {urlsplit(url).netloc}\r\nAuthorization: Bearer {token}\r\n"
        f"Content-Type: application/json\r\nContent-Length: {len(data)}\r\n\r\n"
    )
    return head.encode() + data


async def calls(url: str, message: bytes, clients: int, seconds: float, status: int = 200) -> Result:
    """Send ``message`` again and again from each client, as fast as it is answered with ``status``."""
    result = Result()
    end = time.perf_counter() + seconds

    async def client() -> None:
        reader, writer = await _connect(url)
        while (sent := time.perf_counter()) < end:
            writer.write(message)
            head = await reader.readuntil(b"\r\n\r\n")
            _, length, rest = head.lower().partition(b"content-length:")
            body = await reader.readexactly(int(rest.split(b"\r\n")[0]) if length else 0)
            if int(head[9:12]) != status:
                raise RuntimeError(f"HTTP {head[9:12]!r}: {body[:200]!r}")
            result.times_ms.append((time.perf_counter() - sent) * 1000)
        writer.close()

    started = time.perf_counter()
    await asyncio.gather(*(client() for _ in range(clients)))
    result.seconds = time.perf_counter() - started
    return result


async def streams(url: str, message: bytes, clients: int) -> Result:
    """Open a stream a client; each token's time is from the engine's writing it (it says when) to its arrival here."""
    result = Result()

    async def client(delay_s: float) -> None:
        await asyncio.sleep(delay_s)
        reader, writer = await _connect(url)
        writer.write(message)
        while True:
            line = await reader.readline()
            if not line.startswith(b"data: "):
                if not line:
                    raise RuntimeError("the stream broke off")
                continue
            event = json.loads(line[6:])
            if "error" in event:
                raise RuntimeError(str(event))
            if event["stop"]:
                break
            result.times_ms.append((time.time() - float(event["content"])) * 1000)
        writer.close()

    started = time.perf_counter()
    # Spread over a second, as players are.
    await asyncio.gather(*(client(number / clients) for number in range(clients)))
    result.seconds = time.perf_counter() - started
    return result


async def _connect(url: str) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    address = urlsplit(url)
    return await asyncio.open_connection(address.hostname, address.port)
