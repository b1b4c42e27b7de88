"""Parts that need no server."""

from __future__ import annotations

import asyncio
from datetime import datetime, timedelta, timezone
from pathlib import Path

import pytest

import eventstream
from eventstream._position import Progress
from eventstream._stream import _time
from eventstream._url import base_url, drain_time, retry_after, start_time, with_query


@pytest.mark.parametrize(
    ("url", "want"),
    [
        ("host:8003", "ws://host:8003/ws"),
        ("https://host", "wss://host/ws"),
        ("http://host/", "ws://host/ws"),
        ("wss://host/a/b?x=1", "wss://host/a/b?x=1"),
    ],
)
def test_base_url(url: str, want: str) -> None:
    assert base_url(url) == want


@pytest.mark.parametrize("url", ["ftp://host", "ws://", "://"])
def test_bad_url(url: str) -> None:
    with pytest.raises(ValueError, match="want ws://host"):
        base_url(url)


def test_query() -> None:
    assert with_query("ws://h/ws?a=1&cursor=old", cursor="a b", seen="") == "ws://h/ws?a=1&cursor=a+b"


def test_times() -> None:
    assert start_time(datetime(2026, 1, 2, 3, 4, 5, tzinfo=timezone.utc)) == "2026-01-02T03:04:05.000Z"
    assert start_time("2026-01-02T04:04:05+01:00") == "2026-01-02T03:04:05.000Z"
    assert start_time(None) == ""
    for ago in ("1h30m", timedelta(minutes=90)):
        at = datetime.fromisoformat(start_time(ago).replace("Z", "+00:00"))
        assert abs(datetime.now(timezone.utc) - at - timedelta(minutes=90)) < timedelta(minutes=1)
    for wrong in ("", "yesterday", "1d", datetime(2026, 1, 2)):
        with pytest.raises(ValueError, match="want a time"):
            start_time(wrong)


@pytest.mark.parametrize(
    ("reason", "want"),
    [
        ("gateway is draining; reconnect in 35ms", 0.035),
        ("in 1m1.5s", 61.5),
        ("in 9999h", 300.0),
        ("", 0.0),
        ("in -5s", 0.0),
        ("bye", 0.0),
    ],
)
def test_drain_time(reason: str, want: float) -> None:
    assert drain_time(reason) == pytest.approx(want)


def test_retry_after() -> None:
    assert retry_after("3") == 3
    assert retry_after("1000000") == 300
    assert retry_after("-1") == retry_after("soon") == retry_after(None) == 0
    assert retry_after("Wed, 01 Jan 2020 00:00:00 GMT") == 0


def test_progress() -> None:
    p = Progress(None)
    assert p.position is None
    p.to("c1")
    p.event(3, 7)
    p.event(3, 5)
    p.event(0, 0)
    assert p.position == eventstream.Position("c1", "0-0,3-7")
    p.to("")
    assert p.position == eventstream.Position("c1", "0-0,3-7")
    p.to("c2")
    assert p.position == eventstream.Position("c2")
    for n in range(2000):
        p.event(n, 10**9)
    position = p.position
    assert position and len(position.seen) <= 4096 and position.seen.endswith("-1000000000")
    assert Progress(position).position == position


def test_file_cursor(tmp_path: Path) -> None:
    store = eventstream.FileCursor(tmp_path / "place")
    assert store.load() is None
    for position in (eventstream.Position("c1", "0-1,2-3"), eventstream.Position("c2")):
        store.save(position)
        assert store.load() == position
    assert [f.name for f in tmp_path.iterdir()] == ["place"]


def test_wrong_use() -> None:
    async def wrong() -> None:
        with pytest.raises(ValueError, match="one of them"):
            eventstream.connect("host", since="1h", durable=True)
        with pytest.raises(ValueError, match="max_buffered"):
            eventstream.connect("host", max_buffered=0)
        stream = eventstream.connect("host", subscriber_id="ann")
        with pytest.raises(RuntimeError, match="async with"):
            await anext(stream)
        with pytest.raises(ValueError, match="manual"):
            stream.ack()

    asyncio.run(wrong())


def test_odd_times() -> None:
    assert _time(1767225600001) == datetime(2026, 1, 1, 0, 0, 0, 1000, tzinfo=timezone.utc)
    assert _time(-1).year == 1969
    assert _time(1767225600000000).year == 9999
    assert _time(-(10**18)).year == 1
