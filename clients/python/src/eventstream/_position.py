"""How far a stream has come."""

from __future__ import annotations

import contextlib
import os
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

# The ids of some 300 partitions. What is left out comes again, and is dropped.
_MAX_SEEN = 4096


@dataclass(frozen=True)
class Position:
    """Where a stream goes on: a cursor, which is opaque, and the newest id of each partition that came
    since (``"0-7,3-12"``)."""

    cursor: str
    seen: str = ""


class CursorStore(Protocol):
    """Keeps a position over restarts. Its methods may block for a moment."""

    def load(self) -> Position | None: ...

    def save(self, position: Position) -> None: ...


class FileCursor:
    """Keeps a position in a file, which is replaced as a whole."""

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self._path = Path(path)

    def load(self) -> Position | None:
        try:
            words = self._path.read_text(encoding="ascii").split()
        except FileNotFoundError:
            return None
        return Position(words[0], words[1] if len(words) > 1 else "") if words else None

    def save(self, position: Position) -> None:
        fd, name = tempfile.mkstemp(dir=self._path.parent, prefix=self._path.name)
        try:
            with os.fdopen(fd, "w", encoding="ascii") as file:
                file.write(f"{position.cursor} {position.seen}\n")
                file.flush()
                os.fsync(file.fileno())
            os.replace(name, self._path)
        except BaseException:
            with contextlib.suppress(OSError):
                os.unlink(name)
            raise


def split_id(event_id: str) -> tuple[int, int]:
    """Returns partition and offset of an id."""
    partition, _, offset = event_id.partition("-")
    return int(partition), int(offset)


class Progress:
    """A position that moves with each event and each cursor."""

    def __init__(self, start: Position | None) -> None:
        self.cursor = start.cursor if start else ""
        self._since: dict[int, int] = {}
        for event_id in (start.seen if start else "").split(","):
            if event_id:
                self.event(*split_id(event_id))

    def event(self, partition: int, offset: int) -> None:
        if offset > self._since.get(partition, -1):
            self._since[partition] = offset

    def to(self, cursor: str) -> None:
        """A message's cursor is past its own events."""
        if cursor:
            self.cursor = cursor
            self._since.clear()

    def forget_seen(self) -> bool:
        """Forgets what came since the cursor, and tells whether there was anything."""
        known = bool(self._since)
        self._since.clear()
        return known

    @property
    def since(self) -> Mapping[int, int]:
        return self._since

    @property
    def position(self) -> Position | None:
        if not self.cursor:
            return None
        seen = ",".join(f"{p}-{o}" for p, o in sorted(self._since.items()))
        if len(seen) > _MAX_SEEN:
            seen = seen[: seen.rindex(",", 0, _MAX_SEEN + 1)]
        return Position(self.cursor, seen)
