"""All cases of internal/conformance that are of WebSockets, with both forms of the client."""

from __future__ import annotations

import asyncio
import threading
import urllib.error
from typing import Any

import pytest
from conftest import get

import eventstream
import eventstream.sync

NAMES = {
    eventstream.RevokedError: {"403": "forbidden", "4003": "not_allowed"},
    eventstream.AuthenticationError: {"401": "unauthorized", "4004": "expired"},
    eventstream.ProtocolError: {"400": "bad_request"},
}


def name_of(error: eventstream.EventStreamError) -> str:
    return next(name for code, name in NAMES[type(error)].items() if code in str(error))


def options(case: dict[str, Any], gaps: list[str]) -> dict[str, Any]:
    client, asked = case["client"], 0

    async def token(_reason: str) -> str:
        nonlocal asked
        asked += 1
        return f"token-{asked}"

    return {
        "subscriber_id": "ann",
        "token": token if client.get("token") else None,
        "durable": client.get("durable", False),
        "since": client.get("since"),
        "ack": client.get("ack", "off"),
        "ack_every": 0.05,
        "backoff": eventstream.Backoff(0.05, 1),
        "open_timeout": 2.0,
        "on_gap": lambda gap: gaps.append(gap.reason),
    }


def judged(base: str, events: list[str], gaps: list[str], error: str) -> None:
    try:
        get(base + "/result", {"events": events, "gaps": gaps, "error": error})
    except urllib.error.HTTPError as e:
        pytest.fail(e.read().decode())


def want(case: dict[str, Any]) -> tuple[int, int]:
    return len(case["want"].get("events", [])), len(case["want"].get("gaps", []))


async def follow(base: str, case: dict[str, Any]) -> tuple[list[str], list[str], str]:
    events: list[str] = []
    gaps: list[str] = []
    n, _ = want(case)
    try:
        async with eventstream.connect(base + "/ws", **options(case, gaps)) as stream:
            if n == 0 or case["want"].get("error"):
                n += 1  # it ends by itself
            async for event in stream:
                events.append(event.id)
                if len(events) == n:
                    break
    except eventstream.EventStreamError as e:
        return events, gaps, name_of(e)
    return events, gaps, ""


def test_async(kit: str) -> None:
    cases = [c for c in get(kit + "/cases") if c.get("only") != "sse"]
    assert len(cases) > 20

    async def all_of_them() -> list[Any]:
        return await asyncio.gather(
            *(asyncio.wait_for(follow(f"{kit}/{c['name']}/async", c), 60) for c in cases), return_exceptions=True
        )

    wrong = []
    for case, got in zip(cases, asyncio.run(all_of_them()), strict=True):
        try:
            if isinstance(got, BaseException):
                raise got
            judged(f"{kit}/{case['name']}/async", *got)
        except BaseException as e:
            wrong.append(f"{case['name']}: {e!r}")
    assert not wrong, "\n".join(wrong)


@pytest.mark.parametrize("name", ["drop", "gap", "durable", "not-allowed", "renewed-in-place"])
def test_sync(kit: str, name: str) -> None:
    case = next(c for c in get(kit + "/cases") if c["name"] == name)
    events: list[str] = []
    gaps: list[str] = []
    error = ""
    try:
        with eventstream.sync.connect(f"{kit}/{name}/sync/ws", **options(case, gaps)) as stream:
            end = threading.Timer(60, stream.close)
            end.start()
            try:
                for event in stream:
                    events.append(event.id)
                    if len(events) == want(case)[0] and not case["want"].get("error"):
                        break
            finally:
                end.cancel()
    except eventstream.EventStreamError as e:
        error = name_of(e)
    judged(f"{kit}/{name}/sync", events, gaps, error)
