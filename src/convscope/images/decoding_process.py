"""Decoding in a child process, for files that strangers send and folders that nobody has checked.

A decoder stuck in a C library holds its thread for ever, and a thread cannot be ended. A process
can. Each `Decoder` keeps one child that decodes one file after another:

    parent                                      child
      | -- length, JSON {name, fit, ...}, file -->|  starts its watchdog, decodes
      | <-- length, JSON {size or error}, pixels - |  stops its watchdog

The watchdog is an alarm of the system, which ends the child when the time is up whatever it is doing;
the parent sees the pipe close and starts another child for the next file.
Messages are JSON and raw pixels, never pickles: what a damaged child says runs no code here.
"""

from __future__ import annotations

import faulthandler
import io
import json
import os
import queue
import signal
import struct
import subprocess
import sys
import weakref
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import asdict
from pathlib import Path
from typing import IO, Any, Self, TextIO

from PIL import Image

from convscope.errors import DecoderStartError, ImageError
from convscope.images.decode import MAX_BYTES, Decoded, decode_file
from convscope.images.pixel_values import Range
from convscope.images.resize import Fit

SECONDS = 30.0
"""A file may take this long."""

_START = """
import json, os, sys
path, seconds, max_bytes = json.loads(sys.argv[1])
sys.path[:] = path
try:
    from convscope.images.decoding_process import serve
    serve(seconds, max_bytes)
except BaseException:
    os._exit(3)  # 1 may be the watchdog's
"""
_HEAD = struct.Struct(">II")  # bytes of the JSON part and of what follows it
_LIBRARY_BYTES = 2**28
_READY = b"+"
_TIME_IS_UP = -getattr(signal, "SIGALRM", -1)  # exit code of a child that its watchdog ended


class SlowPictureError(ImageError):
    """A picture takes longer to decode than is allowed."""


class _ChildEndedError(Exception):
    """The child is gone, with this exit code."""

    def __init__(self, code: int) -> None:
        super().__init__(code)
        self.code = code


class Decoder:
    """Child processes that decode files, each within a time limit.

    Threads may share one; each file goes to a child that is idle.

    Attributes:
        seconds: how long a file may take.
        max_bytes: memory that a file may take, as in `decode.decode_file`.
    """

    def __init__(
        self, children: int = 2, *, seconds: float = SECONDS, max_bytes: int = MAX_BYTES
    ) -> None:
        """Nothing is started before the first file."""
        self.seconds, self.max_bytes = seconds, max_bytes
        self._children = [_Child(seconds, max_bytes) for _ in range(children)]
        self._idle: queue.SimpleQueue[_Child] = queue.SimpleQueue()
        for child in self._children:
            self._idle.put(child)
        self._end = weakref.finalize(self, _end_all, self._children)

    def decode_file(
        self,
        file: Path | bytes,
        name: str,
        fit: Fit | None = None,
        range: Range | None = None,  # noqa: A002
    ) -> Decoded:
        """Decode a file, as `decode.decode_file` does.

        Raises:
            ImageError: as there, and if it takes too long or crashes the decoder.
            DecoderStartError: if no child process can be started.
        """
        request = {
            "path": None if isinstance(file, bytes) else os.fsencode(file).hex(),
            "name": name,
            "fit": fit and asdict(fit),
            "range": range,
        }
        body = file if isinstance(file, bytes) else b""
        with self._an_idle_child() as child:
            self._refuse_if_closed(name)
            answer, pixels = self._asked_twice(child, request, body)
        if "error" in answer:
            raise ImageError(answer["error"])
        picture = Image.frombytes(answer["mode"], tuple(answer["size"]), pixels)
        return Decoded(picture, answer["note"])

    def _refuse_if_closed(self, name: str) -> None:
        if not self._end.alive:
            msg = f"{name} was not decoded: the decoder was closed meanwhile."
            raise ImageError(msg) from None

    def close(self) -> None:
        """End the children, whatever they are doing."""
        self._end()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    @contextmanager
    def _an_idle_child(self) -> Iterator[_Child]:
        child = self._idle.get()
        try:
            yield child
        except (ImageError, DecoderStartError):
            raise
        except BaseException:  # an answer may be half read
            child.kill()
            raise
        finally:
            if not self._end.alive:
                child.kill()
            self._idle.put(child)

    def _asked_twice(
        self, child: _Child, request: Mapping[str, Any], body: bytes
    ) -> tuple[dict[str, Any], bytes]:
        """Ask a child; one that somebody ended for another reason than this file is asked again."""
        for last in (False, True):
            try:
                return child.ask(request, body)
            except _ChildEndedError as error:
                if error.code == _TIME_IS_UP:
                    msg = (
                        f"{request['name']} takes longer than {self.seconds:g} seconds to decode and "
                        "was given up; save it again as a plain JPEG or PNG."
                    )
                    raise SlowPictureError(msg) from None
                self._refuse_if_closed(request["name"])
                if last:
                    msg = f"{request['name']} makes the decoder crash (exit code {error.code}); it is damaged."
                    raise ImageError(msg) from None
        raise AssertionError  # the loop returns or raises


class _Child:
    """One child process, started when it is first asked and again whenever it has ended."""

    def __init__(self, seconds: float, max_bytes: int) -> None:
        self._process: subprocess.Popen[bytes] | None = None
        self._limits = seconds, max_bytes

    def ask(self, request: Mapping[str, Any], body: bytes) -> tuple[dict[str, Any], bytes]:
        """Send a request, wait for its answer.

        Raises:
            _ChildEndedError: if the child ends before it has answered.
        """
        process = self._process or self._start()
        try:
            _send(_pipe(process.stdin), request, body)
            answer = _receive(_pipe(process.stdout))
        except OSError:  # it ended while it was being asked
            answer = None
        if answer is None:
            raise _ChildEndedError(self._ended())
        return answer

    def kill(self) -> None:
        """End the child, if it runs."""
        if self._process is not None:
            self._process.kill()
            self._ended()

    def _ended(self) -> int:
        """The exit code of a child that ends by itself or was killed."""
        process, self._process = self._process, None
        if process is None:  # another thread has closed the decoder
            return -signal.SIGTERM
        try:
            code = process.wait(5)
        except subprocess.TimeoutExpired:
            process.kill()
            code = process.wait()
        for pipe in (process.stdin, process.stdout):
            with suppress(OSError):
                _pipe(pipe).close()
        return code

    def _start(self) -> subprocess.Popen[bytes]:
        told = json.dumps([_places(), *self._limits])
        bytecode = ["-B"] if sys.dont_write_bytecode else []
        command = [sys.executable, "-I", *bytecode, "-c", _START, told]
        try:
            self._process = process = subprocess.Popen(  # noqa: S603 - Python, with code of ours
                command,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL,
                start_new_session=True,  # Ctrl-C in a terminal is for the parent to answer
            )
        except OSError as error:
            raise DecoderStartError(_cannot_start(str(error))) from None
        if _pipe(process.stdout).read(1) != _READY:
            raise DecoderStartError(_cannot_start(f"it ended with code {self._ended()}"))
        return process


def _places() -> list[str]:
    """Where the child may import from: not from the folder that happens to be the current one.

    Notebooks and Python's prompt have that as "" in `sys.path`; it may be a folder of strangers' files.
    """
    results = [str(place) for place in sys.path if Path(str(place)).is_absolute()]
    return list(dict.fromkeys([*results, str(Path(__file__).resolve().parents[1])]))


def _end_all(children: Sequence[_Child]) -> None:
    for child in children:
        child.kill()


def _cannot_start(reason: str) -> str:
    return f"The process that decodes pictures cannot be started with {sys.executable} ({reason})."


def serve(seconds: float, max_bytes: int) -> None:
    """What the child does: answer requests until its input ends.

    Args:
        seconds: after which the watchdog ends this process, for each file.
        max_bytes: memory that a file may take.
    """
    requests, answers = sys.stdin.buffer, os.fdopen(os.dup(1), "wb")
    with Path(os.devnull).open("w", encoding="utf-8") as nowhere:
        os.dup2(nowhere.fileno(), 1)  # what a C library prints must not come between the answers
        _limit_memory(max_bytes)
        answers.write(_READY)
        answers.flush()
        while (received := _receive(requests)) is not None:
            with _ended_after(seconds, nowhere):
                answer, pixels = _answer(*received, max_bytes)
            _send(answers, answer, pixels)


@contextmanager
def _ended_after(seconds: float, nowhere: TextIO) -> Iterator[None]:
    """End this process if the block takes longer."""
    if hasattr(signal, "setitimer"):  # costs nothing; a thread costs milliseconds on a busy machine
        signal.signal(signal.SIGALRM, signal.SIG_DFL)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, [signal.SIGALRM])  # a mask is inherited
        signal.setitimer(signal.ITIMER_REAL, seconds)
        yield
        signal.setitimer(signal.ITIMER_REAL, 0)
    else:
        faulthandler.dump_traceback_later(seconds, exit=True, file=nowhere)
        yield
        faulthandler.cancel_dump_traceback_later()


def _answer(
    request: Mapping[str, Any], body: bytes, max_bytes: int
) -> tuple[dict[str, Any], bytes]:
    path, fit, ends = request["path"], request["fit"], request["range"]
    file = body if path is None else Path(os.fsdecode(bytes.fromhex(path)))
    try:
        result = decode_file(
            file, request["name"], fit and Fit(**fit), ends and tuple(ends), max_bytes=max_bytes
        )
    except ImageError as error:
        return {"error": str(error)}, b""
    picture = result.picture
    return {"mode": picture.mode, "size": picture.size, "note": result.note}, picture.tobytes()


def _limit_memory(max_bytes: int) -> None:
    """A net below the estimate made from the header: twice as much, and room for the libraries."""
    with suppress(ImportError, OSError, ValueError):  # systems without such a limit
        import resource

        pages = int(Path("/proc/self/statm").read_text("ascii").split()[0])
        limit = pages * resource.getpagesize() + _LIBRARY_BYTES + 2 * max_bytes
        _, hard = resource.getrlimit(resource.RLIMIT_AS)
        resource.setrlimit(resource.RLIMIT_AS, (limit, hard))


def _send(pipe: IO[bytes], words: Mapping[str, Any], body: bytes) -> None:
    text = json.dumps(words).encode()
    pipe.write(_HEAD.pack(len(text), len(body)) + text)
    pipe.write(body)
    pipe.flush()


def _receive(pipe: IO[bytes]) -> tuple[dict[str, Any], bytes] | None:
    """A message; None where the other side has ended."""
    head = pipe.read(_HEAD.size)
    if len(head) < _HEAD.size:
        return None
    text, body = _HEAD.unpack(head)
    message = pipe.read(text + body)
    if len(message) < text + body:
        return None
    return json.loads(message[:text]), message[text:]


def _pipe(pipe: IO[bytes] | None) -> IO[bytes]:
    return pipe or io.BytesIO()
