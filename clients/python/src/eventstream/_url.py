"""Addresses, times, and what a server's answers mean."""

from __future__ import annotations

import re
from datetime import datetime, timedelta, timezone
from email.utils import parsedate_to_datetime
from urllib.parse import parse_qsl, urlencode, urlsplit, urlunsplit

_DURATION = re.compile(r"(?:(\d+(?:\.\d+)?)h)?(?:(\d+(?:\.\d+)?)m)?(?:(\d+(?:\.\d+)?)s)?")
_MOST_ASKED = 300.0  # or one mistaken answer would silence a client for good


def base_url(url: str) -> str:
    """Returns the address of the WebSocket: the path is /ws if there is none."""
    if "://" not in url:
        url = "ws://" + url
    parts = urlsplit(url)
    scheme = {"http": "ws", "https": "wss"}.get(parts.scheme, parts.scheme)
    if scheme not in ("ws", "wss") or not parts.hostname:
        raise ValueError(f"url {url!r}: want ws://host, wss://host, http://host or https://host")
    path = parts.path if parts.path not in ("", "/") else "/ws"
    return urlunsplit((scheme, parts.netloc, path, parts.query, ""))


def with_query(url: str, **more: str) -> str:
    parts = urlsplit(url)
    query = dict(parse_qsl(parts.query, keep_blank_values=True))
    query.update({name: value for name, value in more.items() if value})
    return urlunsplit((parts.scheme, parts.netloc, parts.path, urlencode(query), ""))


def start_time(since: str | datetime | timedelta | None) -> str:
    """Returns a time in the form that the server takes. How long ago is turned into a time once: asked
    for again later it would be another one."""
    if since is None:
        return ""
    if isinstance(since, str):
        match = _DURATION.fullmatch(since)
        if match and since:
            hours, minutes, seconds = (float(part or 0) for part in match.groups())
            since = timedelta(hours=hours, minutes=minutes, seconds=seconds)
        else:
            try:
                since = datetime.fromisoformat(since.replace("Z", "+00:00"))
            except ValueError:
                raise ValueError(
                    f"since {since!r}: want a time such as 2026-01-02T03:04:05Z, or how long ago, such as 1h30m"
                ) from None
    if isinstance(since, timedelta):
        since = datetime.now(timezone.utc) - since
    if since.tzinfo is None:
        raise ValueError(f"since {since}: want a time with a time zone")
    return since.astimezone(timezone.utc).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def retry_after(value: str | None) -> float:
    """Reads the header of that name, in seconds; 0 if it says nothing."""
    if not value:
        return 0.0
    try:
        seconds = float(value)
    except ValueError:
        try:
            seconds = (parsedate_to_datetime(value) - datetime.now(timezone.utc)).total_seconds()
        except (TypeError, ValueError):
            return 0.0
    return min(max(seconds, 0.0), _MOST_ASKED)


_UNITS = {"ns": 1e-9, "µs": 1e-6, "us": 1e-6, "ms": 1e-3, "s": 1.0, "m": 60.0, "h": 3600.0}
_GO_PART = re.compile(r"(\d+(?:\.\d+)?)(ns|µs|us|ms|s|m|h)")


def drain_time(reason: str) -> float:
    """Reads the time that the reason of a close ends with ("reconnect in 1.5s"), in seconds; 0 if there
    is none."""
    last = reason.rsplit(" ", 1)[-1]
    parts = _GO_PART.findall(last)
    if "".join(n + unit for n, unit in parts) != last:
        return 0.0
    return min(sum(float(n) * _UNITS[unit] for n, unit in parts), _MOST_ASKED)
