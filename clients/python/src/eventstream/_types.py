"""What a program gets from a stream."""

from __future__ import annotations

import random
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Literal

State = Literal["connecting", "live", "waiting", "closed"]


@dataclass(frozen=True)
class Event:
    """One event. ``id`` is the same whenever it is sent."""

    id: str
    ts: datetime
    """Time of its Kafka record."""
    data: Any
    """As produced, made by the stream's decoder."""
    serial: int = field(default=0, repr=False, compare=False)
    """Its number in this stream."""


@dataclass(frozen=True)
class Gap:
    """Events that are missing, and why."""

    reason: str
    """``trimmed``, ``replay_limit``, ``unknown_address``, ``kafka_lost``, ``skipped``, ``compacted``,
    ``too_large``, ``other_topic``, or one that later versions have."""
    missing: tuple[tuple[int, int, int], ...] = ()
    """Ranges, as far as they are known: partition, first offset, and the offset after the last."""


@dataclass(frozen=True)
class Backoff:
    """The pause before a new attempt: drawn at random from 0 to ``first`` seconds, which is doubled
    with each attempt that got no hello, to ``most`` seconds. What the server asks for comes on top."""

    first: float = 0.1
    most: float = 10.0

    def pause(self, attempt: int) -> float:
        return random.uniform(0, min(self.most, self.first * 2.0 ** min(attempt, 30)))


class EventStreamError(Exception):
    """What ends a stream. Its subclasses say why."""

    retryable: bool = False


class AuthenticationError(EventStreamError):
    """The token was rejected, or has ended and there is no other one."""


class RevokedError(EventStreamError):
    """The subscriber may not come in: the token was revoked, or an operator ended the connection."""


class ProtocolError(EventStreamError):
    """The server does not understand what the stream asks for, such as a cursor that was changed."""


class GapError(EventStreamError):
    """Raised for a gap with ``on_gap="raise"``. The iteration may go on after it."""

    retryable = True

    def __init__(self, gap: Gap) -> None:
        super().__init__(f"events are missing: {gap.reason}")
        self.gap = gap
