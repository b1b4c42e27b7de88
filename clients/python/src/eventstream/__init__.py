"""Follow a subscriber's events from an eventstream gateway.

    async with eventstream.connect("wss://events.example.com", token=get_token) as stream:
        async for event in stream:
            await handle(event)

The stream connects again by itself after any disconnection, and goes on where it was: nothing is
lost and nothing comes twice. What the server can't deliver any more is told as a gap.
``eventstream.sync`` has the same for code without asyncio.
"""

from ._position import FileCursor, Position
from ._stream import Stream, connect
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

__all__ = [
    "AuthenticationError",
    "Backoff",
    "Event",
    "EventStreamError",
    "FileCursor",
    "Gap",
    "GapError",
    "Position",
    "ProtocolError",
    "RevokedError",
    "State",
    "Stream",
    "connect",
]
