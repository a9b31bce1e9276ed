"""Threads for calls that may hang, as those of a store do."""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import Future
from contextlib import suppress
from functools import partial
from queue import Empty, SimpleQueue
from typing import Any, ParamSpec, TypeVar

P = ParamSpec("P")
R = TypeVar("R")


class DaemonThreads:
    """As many as `count`. Python waits at its end for those of a ThreadPoolExecutor whatever that was told; not for
    these.
    """

    def __init__(self, count: int, name: str) -> None:
        self._calls: SimpleQueue[tuple[Future[Any], Callable[[], Any]] | None] = SimpleQueue()
        self._lock = threading.Lock()
        self._is_over = False
        self._count = count
        for number in range(count):
            threading.Thread(target=self._work, name=f"{name}-{number}", daemon=True).start()

    def submit(self, function: Callable[P, R], /, *args: P.args, **kwargs: P.kwargs) -> Future[R]:
        """Call it in the thread that is free next. Raises RuntimeError once these are closed."""
        future: Future[R] = Future()
        with self._lock:
            if self._is_over:
                raise RuntimeError("closed threads take no calls")
            self._calls.put((future, partial(function, *args, **kwargs)))
        return future

    def close(self) -> None:
        """Cancel the calls that wait, and end each thread after the one that it is at; wait for none."""
        with self._lock:
            self._is_over = True
            with suppress(Empty):
                while (call := self._calls.get_nowait()) is not None:
                    call[0].cancel()
        for _ in range(self._count):
            self._calls.put(None)

    def _work(self) -> None:
        while (call := self._calls.get()) is not None:
            _settle(*call)
            del call  # with what was found, which may be a large picture


def _settle(future: Future[Any], function: Callable[[], Any]) -> None:
    if not future.set_running_or_notify_cancel():
        return
    try:
        found = function()
    except BaseException as error:
        future.set_exception(error)
    else:
        future.set_result(found)
