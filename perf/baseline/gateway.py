"""The predecessor's gateway: a stream per user, read by the handler of each socket.

MODE=blocking is what it did: redis-py's blocking XREAD inside a coroutine.
MODE=async is the same server with redis.asyncio, and nothing else changed.
"""

import asyncio
import os
from contextlib import asynccontextmanager

import redis
import redis.asyncio
from fastapi import FastAPI, WebSocket, WebSocketDisconnect

from probe import Probe

BLOCK_MS = int(os.environ.get("BLOCK_MS", "100"))
MODE = os.environ.get("MODE", "blocking")
REDIS = os.environ["BASELINE_REDIS"]

blocking = redis.Redis.from_url(REDIS, decode_responses=True, protocol=2)
# Each read that waits holds a connection: with the pool's own limit of 100 the 101st socket would fail.
waiting = redis.asyncio.Redis.from_url(REDIS, decode_responses=True, protocol=2, max_connections=100_000)
probe = Probe(os.environ.get("PROBE_FILE"))


@asynccontextmanager
async def lifespan(_):
    probe.start()
    yield


app = FastAPI(lifespan=lifespan)


async def read(stream, last):
    """Returns the entries after last, waiting up to BLOCK_MS for one."""
    with probe.reading():
        if MODE == "async":
            answer = await waiting.xread({stream: last}, count=100, block=BLOCK_MS)
        else:
            answer = blocking.xread({stream: last}, count=100, block=BLOCK_MS)
    return [entry for _, found in answer for entry in found]


@app.get("/readyz")
async def ready():
    return {"status": "ok"}


@app.websocket("/ws")
async def ws(socket: WebSocket, subscriber_id: str):
    stream = f"user:{subscriber_id}"
    newest = blocking.xrevrange(stream, count=1)
    last = newest[0][0] if newest else "0"
    await socket.accept()
    await socket.send_json({"type": "hello", "subscriber_id": subscriber_id})
    gone = asyncio.create_task(until_gone(socket))
    with probe.socket():
        try:
            while not gone.done():
                for last, fields in await read(stream, last):
                    await socket.send_text(fields["message"])
                await asyncio.sleep(0)  # without it one idle socket would keep the loop for ever
        except (WebSocketDisconnect, RuntimeError):
            pass  # it went while something was sent to it
        finally:
            gone.cancel()


async def until_gone(socket):
    """Returns when the client has gone. Without it the loop above would outlive
    clients that get no events, which would make the next step of a test worse."""
    try:
        while True:
            await socket.receive_text()
    except (WebSocketDisconnect, RuntimeError):
        return
