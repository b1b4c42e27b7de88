"""The stream: one task reads from the gateway into a bounded buffer, and the program takes from it."""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import ssl as ssl_module
import time
from collections import deque
from collections.abc import Awaitable, Callable
from datetime import datetime, timedelta, timezone
from types import TracebackType
from typing import Any, Literal, cast

from websockets.asyncio.client import ClientConnection
from websockets.asyncio.client import connect as open_socket
from websockets.exceptions import ConnectionClosed, InvalidStatus

from ._position import CursorStore, Position, Progress, split_id
from ._types import (
    AuthenticationError,
    Backoff,
    Event,
    EventStreamError,
    Gap,
    GapError,
    ProtocolError,
    RevokedError,
    State,
)
from ._url import base_url, drain_time, retry_after, start_time, with_query

TokenReason = Literal["connect", "expiring", "refused"]
Token = str | Callable[[TokenReason], str | Awaitable[str]]
OnGap = Literal["warn", "raise"] | Callable[[Gap], None]

_SAVE_EVERY = 1.0  # seconds
_ACK_LOG = 10_000  # events that can be acknowledged out of order


_EPOCH = datetime(1970, 1, 1, tzinfo=timezone.utc)


def _time(ms: int) -> datetime:
    """What is before year 1 or after 9999, as of a producer that writes microseconds, is the nearest
    time that there is."""
    try:
        return _EPOCH + timedelta(milliseconds=ms)
    except OverflowError:
        return (datetime.max if ms > 0 else datetime.min).replace(tzinfo=timezone.utc)


async def _text_of(token: Awaitable[str]) -> str:
    return await token


class _End(Exception):
    """The end of a connection: ``final`` if a new one would end in the same way."""

    def __init__(self, why: str, final: EventStreamError | None = None, wait: float = 0.0) -> None:
        super().__init__(why)
        self.final, self.wait = final, wait


def connect(
    url: str,
    *,
    token: Token | None = None,
    subscriber_id: str = "",
    cursor: str | Position | None = None,
    since: str | datetime | timedelta | None = None,
    durable: bool = False,
    ack: Literal["auto", "manual", "off"] | None = None,
    ack_every: float = 1.0,
    cursor_store: CursorStore | None = None,
    on_gap: OnGap = "warn",
    on_state: Callable[[State, Exception | None], None] | None = None,
    decoder: Callable[[str | bytes], Any] = json.loads,
    backoff: Backoff | None = None,
    max_buffered: int = 1000,
    max_message: int | None = None,
    open_timeout: float = 15.0,
    ssl: ssl_module.SSLContext | None = None,
    logger: logging.Logger | None = None,
) -> Stream:
    """Returns a stream of the subscriber's events, which connects when it is entered.

    url: ws, wss, http or https URL of the gateway, or host:port.
    token: a text, or a function that is called before each connection, and some time before the token
        in use ends. It may be async.
    subscriber_id: for gateways that ask for no token.
    cursor: where to go on; without it events from now on come, or:
    since: a time, or how long ago: begin there.
    durable: begin after what was acknowledged last.
    ack: "auto" acknowledges an event when the next one is asked for, which is the default with durable;
        "manual" leaves it to Stream.ack; "off".
    cursor_store: keeps the position over restarts, such as FileCursor("place.txt").
    on_gap: "warn" logs it; "raise" raises a GapError from the iteration; or a function.
    on_state: is told of each change, with why.
    decoder: reads JSON, such as orjson.loads.
    max_buffered: events that wait for the program. When there are so many, nothing more is read.
    max_message: the largest message to take, in bytes; larger events are told as gaps.
    """
    if durable and since is not None:
        raise ValueError("since and durable: want one of them")
    if max_buffered < 1:
        raise ValueError("max_buffered: want at least 1")
    return Stream(
        base_url(url),
        token=token,
        subscriber_id=subscriber_id,
        start=Position(cursor) if isinstance(cursor, str) and cursor else cursor or None,
        since=start_time(since),
        durable=durable,
        ack=ack or ("auto" if durable else "off"),
        ack_every=ack_every,
        store=cursor_store,
        on_gap=on_gap,
        on_state=on_state,
        decoder=decoder,
        backoff=backoff or Backoff(),
        max_buffered=max_buffered,
        max_message=max_message,
        open_timeout=open_timeout,
        ssl=ssl,
        log=logger or logging.getLogger("eventstream"),
    )


# What waits for the program: an event with its id taken apart, a cursor, or a gap with its cursor.
_Item = tuple[Event, int, int] | str | tuple[Gap, str]


class Stream:
    """A stream of events. It is an async context manager and an async iterator. Made by connect."""

    def __init__(
        self,
        url: str,
        *,
        token: Token | None,
        subscriber_id: str,
        start: Position | None,
        since: str,
        durable: bool,
        ack: str,
        ack_every: float,
        store: CursorStore | None,
        on_gap: OnGap,
        on_state: Callable[[State, Exception | None], None] | None,
        decoder: Callable[[str | bytes], Any],
        backoff: Backoff,
        max_buffered: int,
        max_message: int | None,
        open_timeout: float,
        ssl: ssl_module.SSLContext | None,
        log: logging.Logger,
    ) -> None:
        self._url, self._token, self._subscriber_id = url, token, subscriber_id
        self._since, self._durable, self._ack_mode, self._ack_every = since, durable, ack, ack_every
        self._store, self._on_gap, self._on_state, self._decoder = store, on_gap, on_state, decoder
        self._backoff, self._max_buffered, self._max_message = backoff, max_buffered, max_message
        self._open_timeout, self._ssl, self._log = open_timeout, ssl, log

        if store is not None and start is None:
            start = store.load()
        self._read = Progress(start)  # what has come from the gateway
        self._handled = Progress(start)  # what the program is done with
        self._newest: dict[int, int] = dict(self._read.since)  # offset by partition; what is below is a repeat
        self._buffer: deque[_Item] = deque()
        self._waiting = 0  # events in the buffer
        self._changed = asyncio.Event()  # the buffer has something, or the stream has ended
        self._room = asyncio.Event()
        self._greeted = asyncio.Event()
        self._serial = 0
        self._current: tuple[Event, int, int] | None = None  # handed over, and not known to be handled
        self._acked = Progress(start)
        self._ack_log: deque[_Item] = deque()  # handed over, and not acknowledged
        self._folded = 0  # serial of the newest event that the log has let go
        self._to_ack: Position | None = None
        self._ack_due = False
        self._said: Position | None = None  # the newest acknowledgement sent
        self._saved = asyncio.Event()  # it was answered
        self._socket: ClientConnection | None = None  # after hello
        self._was_live = False
        self._saved_at = 0.0
        self._task: asyncio.Task[None] | None = None
        self._error: EventStreamError | None = None
        self._state: State = "connecting"
        self._rejected = False  # the last connection was refused for its token
        self._closing = False

    # --- what a program uses ---

    async def __aenter__(self) -> Stream:
        if self._task is not None:
            raise RuntimeError("a stream can be entered once")
        self._task = asyncio.create_task(self._run(), name="eventstream")
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, exc: BaseException | None, tb: TracebackType | None
    ) -> None:
        if exc is None:
            self._done_with_current()
        await self.close()

    def __aiter__(self) -> Stream:
        return self

    async def __anext__(self) -> Event:
        if self._task is None:
            raise RuntimeError("use it with: async with eventstream.connect(...) as stream")
        self._done_with_current()
        while True:
            while not self._buffer:
                if self._state == "closed":
                    if self._error is not None:
                        raise self._error
                    raise StopAsyncIteration
                self._changed.clear()
                await self._changed.wait()
            # From here on nothing waits: who cancels this call loses no event.
            item = self._buffer.popleft()
            if isinstance(item, str):
                self._pass(item)
            elif isinstance(item[0], Event):
                self._waiting -= 1
                self._room.set()
                self._current = cast("tuple[Event, int, int]", item)
                return item[0]
            else:
                self._pass(item)
                self._tell_gap(item[0])

    def ack(self, event: Event | None = None) -> None:
        """Acknowledges all events up to this one, or all that were handed over. It is sent within a
        second, and once more after a disconnection."""
        if self._ack_mode == "off":
            raise ValueError('ack: the stream was made without; pass ack="manual"')
        if self._current and (event is None or event.serial >= self._current[0].serial):
            self._done_with_current()
        until = self._serial if event is None else event.serial
        if until < self._folded:
            return
        while self._ack_log:
            item = self._ack_log[0]
            if not isinstance(item, str) and isinstance(item[0], Event) and item[0].serial > until:
                break
            self._move(self._acked, self._ack_log.popleft())
        self._to_ack, self._ack_due = self._acked.position, True

    @property
    def state(self) -> State:
        return self._state

    @property
    def position(self) -> Position | None:
        """Where another stream goes on after the events that were handled: an event counts as handled
        when the next one is asked for. None before anything is known."""
        return self._handled.position

    async def ready(self) -> None:
        """Waits for the first hello: each event that is produced from then on is matched for this
        stream. Raises what has ended the stream."""
        while not self._greeted.is_set():
            if self._state == "closed":
                raise self._error or EventStreamError("the stream is closed")
            self._changed.clear()
            done = [asyncio.ensure_future(e.wait()) for e in (self._greeted, self._changed)]
            try:
                await asyncio.wait(done, return_when=asyncio.FIRST_COMPLETED)
            finally:
                for d in done:
                    d.cancel()

    async def close(self) -> None:
        """Ends the stream, after a last acknowledgement. What waits in its buffer comes again next time."""
        task = self._task
        if task is not None and not task.done():
            try:
                await self._last_ack()
            finally:
                self._closing = True  # before Python 3.12 wait_for may swallow what comes now
                task.cancel()
                await asyncio.wait([task])
        self._buffer.clear()
        self._save(now=True)

    async def _last_ack(self) -> None:
        if self._ack_mode == "off" or not self._ack_due or self._socket is None:
            return
        with contextlib.suppress(ConnectionClosed, TimeoutError, asyncio.TimeoutError):
            if await self._send_ack(self._socket):
                await asyncio.wait_for(self._saved.wait(), 2)

    # --- positions ---

    @staticmethod
    def _move(progress: Progress, item: _Item) -> None:
        if isinstance(item, str):
            progress.to(item)
        elif isinstance(item[0], Event):
            _, partition, offset = cast("tuple[Event, int, int]", item)
            progress.event(partition, offset)
        else:
            progress.to(cast("tuple[Gap, str]", item)[1])

    def _pass(self, item: _Item) -> None:
        """Notes what is behind the program now."""
        self._move(self._handled, item)
        if self._ack_mode == "auto":
            self._move(self._acked, item)
            if not isinstance(item, str):
                self._ack_due = True
        elif self._ack_mode == "manual" and isinstance(item, str) and not self._ack_log:
            self._move(self._acked, item)  # all before it is acknowledged
            if self._ack_due:
                self._to_ack = self._acked.position
        elif self._ack_mode == "manual":
            self._ack_log.append(item)
            if len(self._ack_log) > _ACK_LOG:  # the oldest can be acknowledged with newer ones only
                oldest = self._ack_log.popleft()
                self._move(self._acked, oldest)
                if not isinstance(oldest, str) and isinstance(oldest[0], Event):
                    self._folded = oldest[0].serial
        self._save()

    def _done_with_current(self) -> None:
        if self._current is not None:
            current, self._current = self._current, None
            self._pass(current)

    def _save(self, now: bool = False) -> None:
        position = self._handled.position
        if self._store is None or position is None:
            return
        if not now and time.monotonic() - self._saved_at < _SAVE_EVERY:
            return
        self._saved_at = time.monotonic()
        try:
            self._store.save(position)
        except Exception as e:
            self._log.warning("the position can't be saved: %s", e)

    def _tell_gap(self, gap: Gap) -> None:
        if self._on_gap == "raise":
            raise GapError(gap)
        if self._on_gap == "warn":
            self._log.warning("events are missing: %s %s", gap.reason, gap.missing)
        else:
            cast("Callable[[Gap], None]", self._on_gap)(gap)

    # --- the task ---

    def _tell(self, state: State, why: Exception | None = None) -> None:
        if state != self._state or why is not None:
            self._state = state
            if self._on_state is not None:
                try:
                    self._on_state(state, why)
                except Exception:
                    self._log.exception("on_state has failed")

    async def _run(self) -> None:
        attempt = 0
        try:
            while True:
                self._check_closing()
                self._tell("connecting")
                try:
                    greeted = await self._connect()
                    end = _End("the connection has ended") if greeted is None else greeted
                except _End as e:
                    end = e
                except EventStreamError as e:  # of the token's function
                    end = _End(str(e), None if e.retryable else e)
                except Exception as e:
                    end = _End(f"{type(e).__name__}: {e}")
                if end.final is not None:
                    self._error = end.final
                    return
                attempt = 0 if self._was_live else attempt + 1
                wait = end.wait + self._backoff.pause(attempt)
                self._log.info("disconnected; connecting again in %.1f s: %s", wait, end)
                self._tell("waiting", end)
                await asyncio.sleep(wait)
        finally:
            self._tell("closed", self._error)
            self._changed.set()

    def _check_closing(self) -> None:
        if self._closing:
            raise asyncio.CancelledError

    async def _connect(self) -> _End | None:
        self._was_live = False
        position = self._read.position
        query = {
            "subscriber_id": self._subscriber_id,
            "cursor": position.cursor if position else "",
            "seen": position.seen if position else "",
            "since": self._since if position is None else "",
            "durable": "true" if self._durable else "",
            "max_message": str(self._max_message or ""),
        }
        headers: dict[str, str] = {}
        if self._token is not None:
            headers["Authorization"] = "Bearer " + await self._ask_token("refused" if self._rejected else "connect")
        try:
            socket = await open_socket(
                with_query(self._url, **query),
                additional_headers=headers,
                ssl=self._ssl,
                open_timeout=self._open_timeout,
                close_timeout=2,
                max_size=64 << 20,
                compression="deflate",
                # Pings say that we are alive, also while the program is slow and nothing is read.
                # Whether the gateway is, its messages tell.
                ping_interval=20,
                ping_timeout=None,
            )
        except InvalidStatus as e:
            raise self._refused(e) from None
        self._rejected = False
        try:
            await self._follow(socket)
        except ConnectionClosed as e:
            return self._closed(e)
        finally:
            self._socket = None
            await socket.close()
        return None

    async def _ask_token(self, reason: TokenReason) -> str:
        if isinstance(self._token, str):
            return self._token
        assert self._token is not None
        token = self._token(reason)
        if isinstance(token, str):
            return token
        try:
            return await asyncio.wait_for(_text_of(token), self._open_timeout)
        except (TimeoutError, asyncio.TimeoutError):
            raise _End(f"the token's function has not answered for {self._open_timeout:.0f} s") from None

    def _refused(self, e: InvalidStatus) -> _End:
        status = e.response.status_code
        body = e.response.body.decode(errors="replace")[:300] if e.response.body else ""
        why = f"the gateway answered {status}: {body}"
        if status == 400:
            if self._read.forget_seen():  # an older gateway does not know the parameter
                return _End(why)
            return _End(why, ProtocolError(why))
        if status == 401:
            if callable(self._token) and not self._rejected:
                self._rejected = True
                return _End(why)
            return _End(why, AuthenticationError(why))
        if status == 403:
            return _End(why, RevokedError(why))
        return _End(why, wait=retry_after(e.response.headers.get("Retry-After")))

    def _closed(self, e: ConnectionClosed) -> _End:
        code, reason = (e.rcvd.code, e.rcvd.reason) if e.rcvd else (1006, "cut off")
        why = f"closed with {code}: {reason}"
        if code == 4003:
            return _End(why, RevokedError(why))
        if code == 4004 and not callable(self._token):
            return _End(why, AuthenticationError(why))
        if code == 4001:
            return _End(why, ProtocolError(why))
        return _End(why, wait=drain_time(reason) if code == 1001 else 0.0)

    async def _follow(self, socket: ClientConnection) -> None:
        """Reads messages until the connection ends."""
        patience = self._open_timeout
        helpers: set[asyncio.Task[None]] = set()
        if self._said is not None:  # it may not be saved
            self._said, self._ack_due = None, True
        try:
            while True:
                try:
                    text = await asyncio.wait_for(socket.recv(), patience)
                except (TimeoutError, asyncio.TimeoutError):
                    raise _End(f"nothing has come for {patience:.0f} s") from None
                self._check_closing()
                message = self._decoder(text)
                kind = message.get("type")
                if kind == "hello":
                    patience = 2.5 * message.get("heartbeat_s", 25)
                    self._greet(message)
                    self._socket = socket
                    if self._ack_mode != "off":
                        helpers.add(asyncio.create_task(self._send_acks(socket)))
                elif kind == "token" and callable(self._token):
                    helpers.add(asyncio.create_task(self._renew(socket, message["expires"])))
                elif kind == "acked":
                    self._saved.set()
                elif kind == "error":
                    self._log.warning("the gateway says: %s: %s", message.get("code"), message.get("message"))
                    if message.get("code") == "ack_later":
                        self._said, self._ack_due = None, True
                else:
                    await self._take(message)
        finally:
            for task in helpers:
                task.cancel()

    def _greet(self, message: dict[str, Any]) -> None:
        # What can't be resumed is followed by a gap. Until that has come the old cursor stays, or a
        # disconnection in between would make the gap a silent one.
        asked_for_nothing = not self._read.cursor and not self._durable and not self._since
        if message.get("resumed") or asked_for_nothing:
            self._put_cursor(message["cursor"])
        if not self._acked.cursor:
            self._acked.to(message["cursor"])  # what comes can be acknowledged since then
        self._was_live = True
        self._greeted.set()
        self._tell("live")

    async def _take(self, message: dict[str, Any]) -> None:
        kind = message.get("type")
        if kind == "events":
            for e in message["events"]:
                await self._take_event(e)
            self._put_cursor(message.get("cursor", ""))
        elif kind == "cursor":
            self._put_cursor(message["cursor"])
        elif kind == "gap":
            if message["reason"] == "other_topic":
                self._newest.clear()  # ids begin again
            missing = tuple((m["partition"], m["from"], m["to"]) for m in message.get("missing", ()))
            cursor = message.get("cursor") or message["to"]
            self._read.to(cursor)
            self._put((Gap(message["reason"], missing), cursor))

    async def _take_event(self, e: dict[str, Any]) -> None:
        partition, offset = split_id(e["id"])
        if offset > self._newest.get(partition, -1):
            while self._waiting >= self._max_buffered:
                self._room.clear()
                await self._room.wait()
            self._serial += 1
            at = _time(e["ts"])
            self._newest[partition] = offset
            self._waiting += 1
            self._put((Event(e["id"], at, e["data"], self._serial), partition, offset))
        self._read.event(partition, offset)

    def _put_cursor(self, cursor: str) -> None:
        if cursor:
            self._read.to(cursor)
            self._put(cursor)

    def _put(self, item: _Item) -> None:
        if isinstance(item, str) and self._buffer and isinstance(self._buffer[-1], str):
            self._buffer[-1] = item  # the newer one takes its place
        else:
            self._buffer.append(item)
        if isinstance(item, str) and len(self._buffer) == 1 and self._current is None:
            self._pass(self._buffer.popleft())  # nothing is before it
        self._changed.set()

    async def _send_acks(self, socket: ClientConnection) -> None:
        with contextlib.suppress(ConnectionClosed):
            while True:
                await self._send_ack(socket)
                await asyncio.sleep(self._ack_every)

    async def _send_ack(self, socket: ClientConnection) -> bool:
        position = self._to_ack if self._ack_mode == "manual" else self._acked.position
        if not self._ack_due or position is None or position == self._said:
            return False
        self._ack_due, self._said = False, position
        self._saved.clear()
        said = {"type": "ack", "cursor": position.cursor}
        if position.seen:
            said["seen"] = position.seen
        await socket.send(json.dumps(said))
        return True

    async def _renew(self, socket: ClientConnection, expires: float) -> None:
        """Sends another token some time before the one in use ends."""
        left = expires - time.time()
        if left < 1:
            return  # our clock may be wrong. When the gateway ends the connection there is a new one
        await asyncio.sleep(max(0.0, left - min(60.0, left / 2)))
        try:
            token = await self._ask_token("expiring")
            await socket.send(json.dumps({"type": "token", "token": token}))
        except ConnectionClosed:
            pass
        except Exception as e:
            self._log.warning("there is no new token yet: %s", e)
