"""Schemathesis does not know by itself how to send NDJSON."""

import schemathesis


@schemathesis.serializer("application/x-ndjson", "application/ndjson")
def lines(context, value):
    return value if isinstance(value, bytes) else str(value).encode("utf-8", "surrogatepass")
