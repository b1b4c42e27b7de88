"""The client with a real gateway: eventstream dev."""

from __future__ import annotations

import asyncio
import functools
import json
import signal
import subprocess
import sys
import threading
import uuid
from pathlib import Path

import pytest
from conftest import ROOT, Dev, get

import eventstream
import eventstream.sync


def subscriber(dev: Dev) -> str:
    name = f"py-{uuid.uuid4().hex}"
    get(dev.api + "/filters", {"subscriber_id": name, "event_types": ["purchase"]})
    return name


def produce(dev: Dev, *numbers: int) -> None:
    lines = [json.dumps({"event_type": "purchase", "user_id": f"u{n % 5}", "n": n}) for n in numbers]
    subprocess.run(
        [dev.exe, "producer", "--kafka", dev.kafka, "--file", "-"],
        input="\n".join(lines).encode(), check=True, capture_output=True,
    )  # fmt: skip


def test_events_come_once_over_streams(dev: Dev, tmp_path: Path) -> None:
    """Streams that end and begin again get each event once: by a file, and by acknowledgements."""
    name = subscriber(dev)

    async def take(stream: eventstream.Stream, n: int) -> list[int]:
        got = [event.data["n"] async for event in first(stream, n)]
        return sorted(got)

    async def first(stream: eventstream.Stream, n: int):  # type: ignore[no-untyped-def]
        async for event in stream:
            yield event
            if (n := n - 1) == 0:
                return

    async def by_file() -> None:
        store = eventstream.FileCursor(tmp_path / "place")
        async with eventstream.connect(dev.url, subscriber_id=name, cursor_store=store) as stream:
            await asyncio.wait_for(stream.ready(), 30)
            await asyncio.to_thread(produce, dev, *range(10))
            assert await asyncio.wait_for(take(stream, 10), 30) == list(range(10))
        await asyncio.to_thread(produce, dev, *range(10, 20))
        async with eventstream.connect(dev.url, subscriber_id=name, cursor_store=store) as stream:
            assert await asyncio.wait_for(take(stream, 10), 30) == list(range(10, 20))

    asyncio.run(by_file())


def test_slow_program(dev: Dev) -> None:
    """A program that takes its time loses nothing, and nothing grows beyond the bound."""
    name = subscriber(dev)

    async def slow() -> None:
        async with eventstream.connect(dev.url, subscriber_id=name, max_buffered=3) as stream:
            await asyncio.wait_for(stream.ready(), 30)
            await asyncio.to_thread(produce, dev, *range(200))
            got: list[int] = []
            async for event in stream:
                assert stream._waiting <= 3  # pyright: ignore[reportPrivateUsage]
                got.append(event.data["n"])
                await asyncio.sleep(0)
                if len(got) == 200:
                    break
            assert sorted(got) == list(range(200))

    asyncio.run(asyncio.wait_for(slow(), 60))


def test_cancelled_takes_lose_nothing(dev: Dev) -> None:
    name = subscriber(dev)

    async def impatient() -> None:
        async with eventstream.connect(dev.url, subscriber_id=name) as stream:
            await asyncio.wait_for(stream.ready(), 30)
            producing = asyncio.create_task(asyncio.to_thread(produce, dev, *range(100)))
            got: list[int] = []
            while len(got) < 100:
                take = asyncio.ensure_future(anext(stream))
                await asyncio.wait([take], timeout=0.001)
                if not take.done():
                    take.cancel()
                    await asyncio.wait([take])
                if not take.cancelled():
                    got.append(take.result().data["n"])
            await producing
            assert sorted(got) == list(range(100))

    asyncio.run(asyncio.wait_for(impatient(), 60))


def test_close_during_a_backlog(dev: Dev) -> None:
    """close() ends while messages come without a pause."""
    name = subscriber(dev)
    produce(dev, *range(2000))

    async def leave() -> None:
        for _ in range(20):
            async with eventstream.connect(dev.url, subscriber_id=name, since="1h", max_buffered=10) as stream:
                async for _event in stream:
                    break

    asyncio.run(asyncio.wait_for(leave(), 60))


def test_an_interrupted_call_loses_no_event(dev: Dev) -> None:
    name = subscriber(dev)
    with eventstream.sync.connect(dev.url, subscriber_id=name) as stream:
        stream.ready()

        def interrupt(*_: object) -> None:
            raise InterruptedError

        before = signal.signal(signal.SIGALRM, interrupt)
        try:
            for n in range(5):
                signal.setitimer(signal.ITIMER_REAL, 0.01)
                with pytest.raises(InterruptedError):
                    next(stream)  # nothing comes
                produce(dev, n)
                assert next(stream).data["n"] == n
        finally:
            signal.signal(signal.SIGALRM, before)


def test_sync(dev: Dev) -> None:
    name = subscriber(dev)
    with eventstream.sync.connect(dev.url, subscriber_id=name) as stream:
        stream.ready()
        produce(dev, 1, 2, 3)
        assert sorted(next(stream).data["n"] for _ in range(3)) == [1, 2, 3]
        assert stream.state == "live"
    with pytest.raises(RuntimeError):
        next(eventstream.sync.connect(dev.url))


def test_an_unknown_parameter_ends_it(dev: Dev) -> None:
    async def wrong() -> None:
        async with eventstream.connect(dev.url + "/ws?sinse=1h", subscriber_id="ann") as stream:
            with pytest.raises(eventstream.ProtocolError, match="sinse"):
                await asyncio.wait_for(stream.ready(), 30)

    asyncio.run(wrong())


def test_example(dev: Dev) -> None:
    """The example is stopped and started: what it acknowledged does not come again."""
    name = subscriber(dev)
    with eventstream.sync.connect(dev.url, subscriber_id=name, durable=True) as stream:
        stream.ready()
        produce(dev, 0)
        assert next(stream).data["n"] == 0

    def run(lines: int) -> list[str]:
        worker = [sys.executable, "-u", str(ROOT / "examples/python-worker/worker.py"), dev.url, name]
        # Where the tests run in the background, SIGINT is ignored, and would be by the worker.
        heed = functools.partial(signal.signal, signal.SIGINT, signal.SIG_DFL)
        with subprocess.Popen(worker, stdout=subprocess.PIPE, text=True, preexec_fn=heed) as process:
            limit = threading.Timer(60, process.kill)
            limit.start()
            assert process.stdout
            got = [process.stdout.readline().strip() for _ in range(lines)]
            process.send_signal(signal.SIGINT)
            got += [line.strip() for line in process.stdout]
            limit.cancel()
            return got

    produce(dev, 1, 2, 3)
    assert len(run(3)) == 3
    produce(dev, 4)
    assert run(1) == ["u4 has spent 0.00"]
