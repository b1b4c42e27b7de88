"""The same stream for programs without asyncio.

    with eventstream.sync.connect("wss://events.example.com", token=token) as stream:
        for event in stream:
            handle(event)

It runs in a thread of its own, so that a program that takes its time holds nothing up.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Coroutine
from types import TracebackType
from typing import Any, TypeVar

from . import connect as connect_async
from ._position import Position
from ._types import Event, State

__all__ = ["Stream", "connect"]

_T = TypeVar("_T")


def connect(url: str, **options: Any) -> Stream:
    """Takes what eventstream.connect takes. Functions among its options are called in the stream's thread."""
    return Stream(url, options)


class Stream:
    """A stream of events. It is a context manager and an iterator, for one thread at a time."""

    def __init__(self, url: str, options: dict[str, Any]) -> None:
        self._loop = asyncio.new_event_loop()
        self._stream = connect_async(url, **options)
        self._thread: threading.Thread | None = None
        self._taken: Event | None = None  # taken from the stream, and not returned

    def _do(self, work: Coroutine[Any, Any, _T]) -> _T:
        if self._thread is None:
            work.close()
            raise RuntimeError("use it with: with eventstream.sync.connect(...) as stream")
        future = asyncio.run_coroutine_threadsafe(work, self._loop)
        try:
            return future.result()
        except BaseException:  # such as a KeyboardInterrupt, or a signal handler's
            future.cancel()
            raise

    def __enter__(self) -> Stream:
        self._thread = threading.Thread(target=self._loop.run_forever, name="eventstream", daemon=True)
        self._thread.start()
        self._do(self._stream.__aenter__())
        return self

    def __exit__(self, kind: type[BaseException] | None, exc: BaseException | None, tb: TracebackType | None) -> None:
        assert self._thread is not None
        try:
            self._do(self._stream.__aexit__(kind, exc, tb))
        finally:
            self._loop.call_soon_threadsafe(self._loop.stop)
            self._thread.join()
            self._loop.close()

    def __iter__(self) -> Stream:
        return self

    def __next__(self) -> Event:
        if not self._do(self._next()):
            raise StopIteration
        event, self._taken = self._taken, None
        assert event is not None
        return event

    async def _next(self) -> bool:
        if self._taken is None:  # otherwise a call before was interrupted
            try:
                self._taken = await self._stream.__anext__()
            except StopAsyncIteration:
                return False
        return True

    def ack(self, event: Event | None = None) -> None:
        """As eventstream.Stream.ack."""

        async def ack() -> None:
            self._stream.ack(event)

        self._do(ack())

    def ready(self) -> None:
        """Waits for the first hello."""
        self._do(self._stream.ready())

    def close(self) -> None:
        """Ends the iteration. Another thread may call it."""
        self._do(self._stream.close())

    @property
    def state(self) -> State:
        return self._stream.state

    @property
    def position(self) -> Position | None:
        """Where another stream goes on after the events that were handled."""
        return self._stream.position
