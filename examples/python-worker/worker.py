"""A durable worker: it adds up what each user has bought, and can be stopped and started at any time.

    pip install eventstream-client
    python worker.py ws://127.0.0.1:8003 demo

An event is acknowledged once it is dealt with. After a crash the events since the last acknowledgement
come again, so what is done with an event has to be the same when it is done twice: totals are kept by
event id.
"""

import asyncio
import sys

import eventstream


async def main(url: str, subscriber: str) -> None:
    bought: dict[str, dict[str, float]] = {}  # by user, by event id
    async with eventstream.connect(url, subscriber_id=subscriber, durable=True, ack="manual") as stream:
        async for event in stream:
            user = event.data.get("user_id", "?")
            bought.setdefault(user, {})[event.id] = event.data.get("amount") or 0.0
            print(f"{user} has spent {sum(bought[user].values()):.2f}", flush=True)
            stream.ack(event)


if __name__ == "__main__":
    if len(sys.argv) != 3:
        sys.exit("usage: worker.py <gateway> <subscriber>")
    try:
        asyncio.run(main(*sys.argv[1:]))
    except KeyboardInterrupt:
        pass
    except eventstream.EventStreamError as e:
        sys.exit(f"the stream has ended: {e}")
