"""Measures, inside the process, what the event loop does.

A thread of its own writes a line of JSON a second: it also runs while the loop is
stuck, since a socket read releases the interpreter.
"""

import asyncio
import json
import threading
import time
from contextlib import contextmanager


class Probe:
    def __init__(self, path):
        self.path = path
        self.sockets = 0
        self.reads = 0
        self.read_s = 0.0
        self.due = float("inf")  # when beat's timer ends
        self.worst = 0.0

    def start(self):
        if self.path:
            self.task = asyncio.create_task(self.beat())
            threading.Thread(target=self.write, daemon=True).start()

    @contextmanager
    def socket(self):
        self.sockets += 1
        try:
            yield
        finally:
            self.sockets -= 1

    @contextmanager
    def reading(self):
        began = time.monotonic()
        try:
            yield
        finally:
            self.reads += 1
            self.read_s += time.monotonic() - began

    async def beat(self):
        """Notes how much later than due the loop comes round to a timer."""
        while True:
            self.due = time.monotonic() + 0.01
            await asyncio.sleep(0.01)
            self.worst = max(self.worst, time.monotonic() - self.due)

    def turn(self):
        """Returns how late the loop was at worst since the last call, or is by now."""
        worst, self.worst = self.worst, 0.0
        return max(worst, time.monotonic() - self.due)

    def write(self):
        reads, read_s, cpu = 0, 0.0, time.process_time()
        with open(self.path, "a", buffering=1) as out:
            while True:
                time.sleep(1)
                line = {
                    "at_ms": int(time.time() * 1000),
                    "sockets": self.sockets,
                    "late_ms": round(1000 * self.turn()),
                    "reads": self.reads - reads,
                    "read_s": round(self.read_s - read_s, 3),
                    "cpu_s": round(time.process_time() - cpu, 3),
                }
                reads, read_s, cpu = self.reads, self.read_s, time.process_time()
                out.write(json.dumps(line) + "\n")
