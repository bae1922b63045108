"""Twelve clients of the app for a few minutes, good ones and bad ones, each answer looked at.

    python benchmarks/soak.py                            three minutes
    python benchmarks/soak.py --seconds 3600             an hour
    python benchmarks/soak.py --requests 60              so many, however long that takes

Every answer is compared with the library's own; whatever is wrong with a question must be refused
with one sentence. Ends with exit code 1 if anything was wrong, or is left growing. See
docs/reliability.md.
"""

from __future__ import annotations

import argparse
import base64
import io
import json
import os
import random
import re
import socket
import struct
import subprocess
import sys
import tempfile
import time
import zlib
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import httpx
import numpy as np
from gradio_client import Client, handle_file
from gradio_client.exceptions import AppError
from PIL import Image

import convscope

CLIENTS, PHOTOGRAPHS = 12, 16
LAYER, CHANNEL, STEPS = "stage:2", 3, 4
EPS = b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 90 90\n%%EndComments\n{} loop\n"
BUSY = re.compile("Too many|Queue is full|receiving too much data")  # true, and no fault


@dataclass(frozen=True)
class Expected:
    """A photograph, and what the library says of it."""

    data: bytes
    path: Path
    score: float
    best: int
    heat: np.ndarray
    most: float


@dataclass
class Tally:
    """What has come back so far."""

    asked: Counter[str] = field(default_factory=Counter)
    refused: Counter[str] = field(default_factory=Counter)
    wrong: list[str] = field(default_factory=list)


class WrongError(Exception):
    """An answer that is not the library's, or none."""


class Refused(Exception):  # noqa: N818 - a refusal may be right
    """What the server says instead of an answer."""


class Visitor:
    """One client: a program and a page at once."""

    def __init__(self, address: str, photographs: list[Expected], seed: int) -> None:
        """Come in."""
        self.address, self.photographs, self.random = address, photographs, random.Random(seed)  # noqa: S311
        self.program = Client(address, verbose=False)
        self.page = httpx.Client(base_url=address, timeout=60)
        config = self.page.get("config").json()
        self.component = next(c["id"] for c in config["components"] if c["type"] == "html")
        self.job_number = next(
            d["id"] for d in config["dependencies"] if d["api_visibility"] == "private"
        )
        self.session = f"soak{seed}"
        self.right = (self.same, self.different, self.text, self.look, self.channel, self.job)
        self.bad = (self.broken, self.cut, self.eps, self.huge, self.options, self.unended)

    def ask(self, tally: Tally) -> None:
        """One question of any kind."""
        kind = self.random.choice(self.right if self.random.random() < 0.7 else self.bad)
        tally.asked[kind.__name__] += 1
        try:
            kind()
        except Refused as refusal:
            said = str(refusal)
            tally.refused[re.sub(r"\d\d+", "N", said)] += 1
            if (kind in self.right and not BUSY.search(said)) or not _is_sentence(said):
                tally.wrong.append(f"{kind.__name__}: refused with {said!r}")
        except WrongError as error:
            tally.wrong.append(f"{kind.__name__}: {error}")
        except Exception as error:  # noqa: BLE001 - whatever goes wrong is told at the end
            tally.wrong.append(f"{kind.__name__}: {type(error).__name__}: {error}")
        else:
            if kind in self.bad and kind != self.cut:
                tally.wrong.append(f"{kind.__name__}: was answered")

    def same(self) -> None:
        """The photograph that all bring."""
        self._predicted(handle_file(self.photographs[0].path), self.photographs[0])

    def different(self) -> None:
        """Any photograph, and where its evidence lies."""
        one = self.random.choice(self.photographs)
        found = self._call(handle_file(one.path), f"class:{one.best}", "gradcam", name="/cam")
        _check_close("the map", np.asarray(found["values"]), one.heat)

    def text(self) -> None:
        """A photograph as base64 text."""
        one = self.random.choice(self.photographs)
        self._predicted(base64.b64encode(one.data).decode(), one)

    def look(self) -> None:
        """The page brings a photograph."""
        self._brought(self.random.choice(self.photographs))

    def channel(self) -> None:
        """The page brings a photograph and opens a channel."""
        one = self.random.choice(self.photographs)
        sent = {"token": self._brought(one), "layer": LAYER, "channel": CHANNEL}
        asked = {"component_id": self.component, "session_hash": self.session}
        found = self._json(
            self._sent(
                "POST",
                "gradio_api/component_server",
                json={**asked, "fn_name": "unit", "data": sent},
            )
        )
        _check_close("the channel", np.asarray(found["most"]), np.asarray(one.most))

    def job(self) -> None:
        """The page has a picture made."""
        name = f"{self.session}-{self.random.random()}"
        ask = {"kind": "synthesize", "job": name, "target": "class:1", "steps": STEPS, "seed": 0}
        asked = {"fn_index": self.job_number, "session_hash": name, "data": [None]}
        self._json(
            self._sent(
                "POST",
                "gradio_api/queue/join",
                json={**asked, "event_data": {"ask": ask}},
            )
        )
        text = self._sent("GET", "gradio_api/queue/data", params={"session_hash": name}).text
        told = [json.loads(line[6:]) for line in text.splitlines() if line.startswith("data: ")]
        last = next(m["output"] for m in told if m["msg"] == "process_completed")
        if f'"job":"{name}"' not in json.dumps(last, separators=(",", ":")):
            msg = f"not the job's own answer: {str(last)[:200]}"
            raise WrongError(msg)

    def broken(self) -> None:
        """A photograph that ends in the middle, or is none."""
        data = self.random.choice(self.photographs).data
        junk = self.random.randbytes(len(data) // 2)
        self._upload(self.random.choice([data[: len(data) // 2], junk, b"", data[:100]]))

    def cut(self) -> None:
        """An upload whose client goes away."""
        where = urlsplit(self.address)
        path = self.random.choice(["upload", "component_server"])
        head = (
            f"POST /gradio_api/{path} HTTP/1.1\r\nhost: {where.netloc}\r\n"
            "content-type: multipart/form-data; boundary=b\r\ncontent-length: 20000000\r\n\r\n"
            '--b\r\ncontent-disposition: form-data; name="files"; filename="a.png"\r\n\r\n'
        )
        with socket.create_connection((where.hostname or "", where.port or 80), 20) as connection:
            connection.sendall(head.encode() + self.random.randbytes(2_000_000))

    def unended(self) -> None:
        """A form without its end."""
        head = {"content-type": "multipart/form-data; boundary=b"}
        body = b'--b\r\ncontent-disposition: form-data; name="files"; filename="a.png"\r\n\r\n'
        path = f"gradio_api/{self.random.choice(['upload', 'component_server'])}"
        sent = body + self.random.randbytes(2_000_000)
        self._json(self._sent("POST", path, content=sent, headers=head))

    def eps(self) -> None:
        """A photograph that is a program without an end."""
        self._upload(EPS)

    def huge(self) -> None:
        """A small file of a picture of many pixels, or a file that is too large."""
        many = _png(40_000, 40_000)
        if self.random.random() < 0.9:
            self._upload(many)
        else:
            self._form(b"\x89PNG" + bytes(25 * 2**20))

    def options(self) -> None:
        """A question with something wrong about it."""
        one = handle_file(self.photographs[0].path)
        name, given = self.random.choice(
            [
                ("/predict", (one, 10**6)),
                ("/predict", (one, "3")),
                ("/cam", (one, "class:99999", "gradcam")),
                ("/cam", (one, "class:1", "no such method")),
                ("/maps", (one, "stage:99", 4)),
                ("/predict", ("/etc/passwd", 1)),
                ("/predict", ({"path": "/etc/passwd"}, 1)),
                ("/synthesize", ("class:1", 10**9, 32, 0)),
            ]
        )
        self._call(*given, name=name)

    def _predicted(self, photo: Any, one: Expected) -> None:
        found = self._call(photo, 1, name="/predict")[0]
        if found["class"] != one.best:
            msg = f"class {found['class']}, not {one.best}"
            raise WrongError(msg)
        _check_close("the score", np.asarray(found["score"]), np.asarray(one.score))

    def _brought(self, one: Expected) -> str:
        found = self._form(one.data)
        if found["classes"][0]["number"] != one.best:
            msg = f"class {found['classes'][0]['number']}, not {one.best}"
            raise WrongError(msg)
        return found["token"]

    def _upload(self, data: bytes) -> None:
        """By the page, or by a program."""
        if self.random.random() < 0.5:
            self._form(data)
            return
        with tempfile.NamedTemporaryFile(suffix=".jpg") as file:
            file.write(data)
            file.flush()
            self._call(handle_file(file.name), 1, name="/predict")

    def _form(self, data: bytes) -> Any:
        fields = {"fn_name": "photograph", "component_id": str(self.component)}
        return self._json(
            self._sent(
                "POST",
                "gradio_api/component_server",
                data={**fields, "session_hash": self.session},
                files={"file": ("me.jpg", data)},
            )
        )

    def _call(self, *given: Any, name: str) -> Any:
        try:
            return self.program.predict(*given, api_name=name)
        except AppError as error:
            raise Refused(str(error)) from None
        except httpx.HTTPStatusError as error:
            raise Refused(error.response.text) from None

    def _sent(self, method: str, path: str, **options: Any) -> httpx.Response:
        """As browsers do, once more where a connection that was kept had just been closed."""
        try:
            return self.page.request(method, path, **options)
        except (httpx.ReadError, httpx.RemoteProtocolError):
            return self.page.request(method, path, **options)

    def _json(self, response: httpx.Response) -> Any:
        with suppress(ValueError):
            found = response.json()
            said = found.get("error") or found.get("detail") if isinstance(found, dict) else None
            if said:
                raise Refused(str(said))
            if response.is_success:
                return found
        raise Refused(response.text)


def _is_sentence(said: str) -> bool:
    return bool(re.fullmatch(r"[A-Za-z\d'\"][^\n]*\.( .*\.)?", said)) and "/tmp" not in said  # noqa: S108


def _check_close(what: str, found: np.ndarray, expected: np.ndarray) -> None:
    if found.shape != expected.shape or not np.allclose(found, expected, rtol=1e-3, atol=1e-4):
        msg = f"{what} is not the library's"
        raise WrongError(msg)


def _png(width: int, height: int) -> bytes:
    """A picture that says how large it is, and holds its first row only."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        whole = kind + data
        return struct.pack(">I", len(data)) + whole + struct.pack(">I", zlib.crc32(whole))

    head = struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)
    data = zlib.compress(bytes(width + 1))
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", data) + chunk(b"IEND", b"")


def photographs(folder: Path) -> list[Expected]:
    """Photographs, and what the library says of them."""
    net, found = convscope.load(), []
    for number in range(PHOTOGRAPHS):
        shift = np.random.default_rng(number).integers(0, 255, (6, 8, 3), dtype=np.uint8)
        picture = Image.fromarray(shift).resize((320, 240), Image.Resampling.BICUBIC)
        buffer = io.BytesIO()
        picture.save(buffer, "jpeg", quality=90)
        path = folder / f"{number}.jpg"
        path.write_bytes(buffer.getvalue())
        row = convscope.predict(net, path, top=1).records()[0]
        best = int(row["class"])
        heat = convscope.cam(net, path, f"class:{best}").values[0].numpy()
        maps = convscope.maps(net, path, LAYER, channels=[CHANNEL])
        most = float(maps.values[0].max())
        found.append(Expected(buffer.getvalue(), path, float(row["score"]), best, heat, most))
    return found


@contextmanager
def server(place: Path) -> Iterator[tuple[str, subprocess.Popen[bytes]]]:
    """The app in a process of its own, which keeps its files in a place."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [sys.executable, "-m", "convscope", "app", "--port", str(port)]
    environment = {**os.environ, "TMPDIR": str(place)}
    with (place / "server.log").open("wb") as log:
        running = subprocess.Popen(command, stdout=log, stderr=log, env=environment)
        address = f"http://127.0.0.1:{port}/"
        try:
            while not _answers(address):
                if running.poll() is not None:
                    sys.exit(f"The app ended: {(place / 'server.log').read_text('utf-8')}")
                time.sleep(0.1)
            yield address, running
        finally:
            running.terminate()
            running.wait(30)


def _answers(address: str) -> bool:
    try:
        return httpx.get(address, timeout=10).is_success
    except httpx.HTTPError:
        return False


def memory(process: int) -> int:
    """Bytes that a process holds."""
    found = re.search(r"VmRSS:\s+(\d+)", Path(f"/proc/{process}/status").read_text("utf-8"))
    return 1024 * int(found[1]) if found else 0


def files(place: Path) -> dict[str, int]:
    """The files of the server and their bytes."""
    return {
        str(path.relative_to(place)): path.stat().st_size
        for path in place.rglob("*")
        if path.is_file() and path.name not in ("server.log", "convscope-app.lock")
    }


def at_once(visitors: list[Visitor], tally: Tally, go_on: Callable[[], bool]) -> None:
    """All ask for as long as they may."""

    def asking(visitor: Visitor) -> None:
        while go_on():
            visitor.ask(tally)

    with ThreadPoolExecutor(len(visitors)) as pool:
        list(pool.map(asking, visitors))


def until(seconds: float | None, requests: int | None, tally: Tally) -> Callable[[], bool]:
    """Whether to go on."""
    end = time.monotonic() + (seconds or 0)
    if requests is not None:
        return lambda: sum(tally.asked.values()) < requests
    return lambda: time.monotonic() < end


def soak(seconds: float | None, requests: int | None, clients: int, seed: int) -> list[str]:
    """Everything that was wrong."""
    with tempfile.TemporaryDirectory() as kept, tempfile.TemporaryDirectory() as given:
        place, expected = Path(kept), photographs(Path(given))
        with server(place) as (address, running):
            visitors = [Visitor(address, expected, seed + k) for k in range(clients)]
            warm, tally = Tally(), Tally()
            at_once(visitors, warm, until(None, 5 * clients, warm))
            before = memory(running.pid)
            at_once(visitors, tally, until(seconds, requests, tally))
            after, left = memory(running.pid), files(place)
            for visitor in visitors:
                visitor.program.close()
        log = (place / "server.log").read_text("utf-8", "replace")
        wrong = [*warm.wrong, *tally.wrong]
        if "Traceback" in log:
            wrong.append(f"the server's log: {log[-3000:]}")
        if left:
            wrong.append(f"left on the disk: {left}")
        if remaining := [path.name for path in place.iterdir() if path.name != "server.log"]:
            wrong.append(f"left when the server had ended: {remaining}")
        _report(tally, before, after, wrong)
        return wrong


def _report(tally: Tally, before: int, after: int, wrong: list[str]) -> None:
    print(f"questions: {sum(tally.asked.values())}")
    for kind, count in tally.asked.most_common():
        print(f"  {kind:10} {count}")
    print(f"refused: {sum(tally.refused.values())}")
    for said, count in tally.refused.most_common():
        print(f"  {count:5}  {said}")
    print(f"memory: {before / 2**20:.0f} MB when warm, {after / 2**20:.0f} MB at the end")
    print(f"wrong: {len(wrong)}")
    for said, count in Counter(wrong).most_common(20):
        print(f"  {count:5}  {said}")


def main() -> int:
    """Soak and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=180)
    parser.add_argument("--requests", type=int, help="instead of seconds")
    parser.add_argument("--clients", type=int, default=CLIENTS)
    parser.add_argument("--seed", type=int, default=0)
    given = parser.parse_args()
    return 1 if soak(given.seconds, given.requests, given.clients, given.seed) else 0


if __name__ == "__main__":
    sys.exit(main())
