"""Threads for calls that may hang."""

from __future__ import annotations

import subprocess
import sys
import threading

import pytest

from bahumukha.web.threads import DaemonThreads


def test_calls_are_answered_in_turn_and_no_more_at_once_than_there_are_threads() -> None:
    threads, both = DaemonThreads(2, "far"), threading.Barrier(2)
    names = [threads.submit(lambda: (both.wait(60), threading.current_thread().name)[1]) for _ in range(8)]
    assert {each.result(60) for each in names} == {"far-0", "far-1"}
    assert threads.submit(int, "12", base=3).result(60) == 5
    with pytest.raises(ZeroDivisionError):
        threads.submit(lambda: 1 / 0).result(60)
    assert threads.submit(int).result(60) == 0, "a call that fails costs no thread"
    threads.close()


def test_closing_cancels_what_waits_and_waits_for_nothing() -> None:
    threads, is_in, may_go = DaemonThreads(1, "far"), threading.Event(), threading.Event()
    hanging = threads.submit(lambda: (is_in.set(), may_go.wait(60)))
    assert is_in.wait(60)
    waiting = threads.submit(int)
    threads.close()
    assert waiting.cancelled() and not hanging.done()
    with pytest.raises(RuntimeError, match="take no calls"):
        threads.submit(int)
    threads.close()
    may_go.set()
    assert hanging.result(60)


def test_python_ends_while_one_hangs() -> None:
    script = (
        "import time\n"
        "from bahumukha.web.threads import DaemonThreads\n"
        "threads = DaemonThreads(2, 'far')\n"
        "threads.submit(time.sleep, 600)\n"
        "threads.close()"
    )
    ran = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=120)
    assert ran.returncode == 0 and ran.stderr == ""
