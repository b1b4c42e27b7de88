"""Real servers for the tests: the conformance kit, and eventstream dev."""

from __future__ import annotations

import contextlib
import json
import os
import socket
import subprocess
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(os.environ.get("EVENTSTREAM_ROOT") or Path(__file__).resolve().parents[3])


def build(package: str, to: Path) -> Path:
    subprocess.run(["go", "build", "-o", str(to), package], cwd=ROOT, check=True)
    return to


@pytest.fixture(scope="session")
def kit(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    exe = build("./internal/conformance/serve", tmp_path_factory.mktemp("kit") / "serve")
    with subprocess.Popen([exe], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as server:
        assert server.stdout and server.stdin
        yield server.stdout.readline().strip()
        server.stdin.close()


def get(url: str, body: Any = None) -> Any:
    data = None if body is None else json.dumps(body).encode()
    headers = {"Content-Type": "application/json"}
    with urllib.request.urlopen(urllib.request.Request(url, data, headers), timeout=30) as answer:
        text = answer.read()
    return json.loads(text) if text else None


def free_port() -> int:
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]


class Dev:
    """eventstream dev."""

    def __init__(self, exe: Path, data: Path) -> None:
        self.exe = exe
        self.api_port, self.gateway_port = free_port(), free_port()
        kafka_port = free_port()
        self.kafka = f"127.0.0.1:{kafka_port}"
        self.process = subprocess.Popen(
            [exe, "dev", "--rate", "0", "--data", data]
            + [
                f"--{name}-port={port}"
                for name, port in {
                    "api": self.api_port,
                    "gateway": self.gateway_port,
                    "filter": free_port(),
                    "kafka": kafka_port,
                }.items()
            ],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        self.api, self.url = f"http://127.0.0.1:{self.api_port}", f"ws://127.0.0.1:{self.gateway_port}"
        until = time.monotonic() + 60
        while True:
            with contextlib.suppress(OSError):
                urllib.request.urlopen(f"http://127.0.0.1:{self.gateway_port}/readyz", timeout=5).close()
                return
            assert time.monotonic() < until, "eventstream dev is not ready"
            time.sleep(0.1)


@pytest.fixture(scope="session")
def dev(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Dev]:
    folder = tmp_path_factory.mktemp("dev")
    server = Dev(build(".", folder / "eventstream"), folder / "data")
    yield server
    server.process.terminate()
    server.process.wait(30)
