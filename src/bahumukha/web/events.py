"""What happens in the server, told to the pages that are open: one stream for each, of server-sent events.

A page that reads slowly misses nothing it would still want to know: of each thing only the last news is kept for it.
"""

from __future__ import annotations

import asyncio
import json
import threading
from collections.abc import AsyncIterator, Callable
from typing import Any

BEAT_SECONDS = 15.0
"""Without news a comment is sent so often, by which either side notices that the other is gone."""
MOST_STREAMS = 100


class Hub:
    """`tell` may be called from any thread; `stream` in the server's event loop."""

    def __init__(self) -> None:
        self._streams: set[_Stream] = set()
        self._lock = threading.Lock()
        self._is_closed = False

    def tell(self, topic: str, key: str, news: dict[str, Any]) -> None:
        """News of a topic (`job`, `index`) about the thing called `key`."""
        with self._lock:
            for stream in self._streams:
                stream.put((topic, key), news)

    def close(self) -> None:
        """End every stream, so that a server that is to stop need not wait for the pages to be closed."""
        with self._lock:
            self._is_closed = True
            for stream in self._streams:
                stream.end()

    @property
    def is_full(self) -> bool:
        return len(self._streams) >= MOST_STREAMS

    async def stream(self, now: Callable[[], list[tuple[str, str, dict[str, Any]]]]) -> AsyncIterator[str]:
        """Events as they go over the line, beginning with what is the case `now`: topic, key and news of each thing."""
        stream = _Stream(asyncio.get_running_loop())
        with self._lock:
            if self._is_closed:
                return
            self._streams.add(stream)
        try:
            # Asked only now that the stream hears what happens: nothing falls between the two.
            for topic, key, news in now():
                stream.put((topic, key), news, is_newer=False)
            yield "retry: 2000\n\n"
            while not stream.ended:
                taken = await stream.take(BEAT_SECONDS)
                for (topic, _), news in taken:
                    yield f"event: {topic}\ndata: {json.dumps(news)}\n\n"
                if not taken:
                    yield ": beat\n\n"
        finally:
            with self._lock:
                self._streams.discard(stream)


class _Stream:
    """News that one page has not read yet."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self.ended = False
        self._loop, self._there = loop, asyncio.Event()
        self._news: dict[tuple[str, str], dict[str, Any]] = {}
        self._lock = threading.Lock()

    def put(self, key: tuple[str, str], news: dict[str, Any], is_newer: bool = True) -> None:
        with self._lock:
            if is_newer or key not in self._news:
                self._news.pop(key, None)
                self._news[key] = news
        self._wake()

    def end(self) -> None:
        self.ended = True
        self._wake()

    async def take(self, seconds: float) -> list[tuple[tuple[str, str], dict[str, Any]]]:
        """All that is new, waited for at most so long."""
        try:
            await asyncio.wait_for(self._there.wait(), seconds)
        except TimeoutError:
            return []
        self._there.clear()
        with self._lock:
            news, self._news = self._news, {}
        return list(news.items())

    def _wake(self) -> None:
        if not self._loop.is_closed():
            self._loop.call_soon_threadsafe(self._there.set)
