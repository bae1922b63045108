"""A client that lets the server wait is closed, and nobody else waits for it."""

import asyncio
import socket
import threading

import pytest

from tests.app.conftest import client_of, tiny
from tests.app.served import over_loopback, read_to_the_end, run

pytest.importorskip("gradio", reason="the extra 'app' is not installed")

import contextlib

from convscope.app import body, connection
from convscope.app.body import BodyReader
from convscope.app.connection import Connection
from convscope.app.guard import Guard
from convscope.app.unread import drop_unread

HOST = b"host: 127.0.0.1\r\n"


async def answering(scope, receive, send):
    """Says something small, something large, or a word after the other."""
    if scope["type"] == "lifespan":
        for _ in range(2):
            message = await receive()
            await send({"type": f"{message['type']}.complete"})
        return
    await receive()
    await send({"type": "http.response.start", "status": 200, "headers": []})
    for _ in range(10 if scope["path"] == "/" else 0):
        await asyncio.sleep(0.1)
        await send({"type": "http.response.body", "body": b"word", "more_body": True})
    large = b"x" * 10**8 if scope["path"] == "/config" else b""
    await send({"type": "http.response.body", "body": large + b"end"})


@pytest.fixture
def port(monkeypatch):
    monkeypatch.setattr(connection, "HEADER_TIMEOUT", 0.3)
    monkeypatch.setattr(connection, "WRITE_TIMEOUT", 0.3)
    with over_loopback(Guard(answering, bodies=BodyReader(timeout=0.3)), Connection) as port:
        yield port


def connected(port):
    found = socket.create_connection(("127.0.0.1", port))
    found.settimeout(60)
    return found


@pytest.mark.parametrize("sent", [b"", b"G", b"GET / HTTP/1.1\r\nhost: 127.0."])
def test_half_a_head_is_closed(port, sent):
    with connected(port) as waiting:
        waiting.sendall(sent)
        assert b"" == read_to_the_end(waiting)


def test_a_head_that_trickles_in_is_closed(port):
    with connected(port) as waiting:
        closed = threading.Event()
        trickle = threading.Thread(target=_trickle, args=(waiting, closed))
        trickle.start()
        try:
            said = read_to_the_end(waiting)
        except ConnectionResetError:  # it was closed while a byte was on its way
            said = b""
        closed.set()
        trickle.join()
    assert b"" == said


def _trickle(waiting, closed):
    while not closed.wait(0.05):
        try:
            waiting.sendall(b"a")
        except OSError:
            return


@pytest.mark.parametrize("path", [b"/gradio_api/upload", b"/login", b"/gradio_api/queue/join"])
def test_half_a_body_is_closed_in_words(port, path):
    with connected(port) as waiting:
        waiting.sendall(b"POST " + path + b" HTTP/1.1\r\n" + HOST + b"content-length: 9\r\n\r\nabc")
        said = read_to_the_end(waiting)
    assert said.startswith(b"HTTP/1.1 408")
    assert said.endswith(b"The request arrived too slowly or was cut off.")


def test_half_a_body_after_a_refusal_is_closed(port):
    with connected(port) as waiting:
        waiting.sendall(b"POST /nothing HTTP/1.1\r\n" + HOST + b"content-length: 9\r\n\r\nabc")
        assert read_to_the_end(waiting).endswith(b"There is nothing here.")


def test_an_answer_that_nobody_fetches_is_dropped(port):
    with connected(port) as waiting:
        waiting.sendall(b"GET /config HTTP/1.1\r\n" + HOST + b"\r\n")
        with connected(port) as other:
            other.sendall(b"GET / HTTP/1.1\r\n" + HOST + b"connection: close\r\n\r\n")
            assert b"end" in read_to_the_end(other)  # after a second, in ten words
        with contextlib.suppress(ConnectionResetError):
            assert len(read_to_the_end(waiting)) < 10**8


def test_long_answers_and_kept_connections_live(port):
    with connected(port) as waiting:
        for last in (b"", b"connection: close\r\n"):
            waiting.sendall(b"GET / HTTP/1.1\r\n" + HOST + last + b"\r\n")
            said = b""
            while not said.endswith(b"0\r\n\r\n"):
                said += waiting.recv(2**16)
            assert 10 == said.count(b"word")


def test_too_many_connections_are_refused_in_words(port, monkeypatch):
    monkeypatch.setattr(connection, "MAX_CONNECTIONS", 0)
    with connected(port) as refused:
        said = read_to_the_end(refused)
    assert said.startswith(b"HTTP/1.1 503")
    assert said.endswith(b"Too many connections are open; please try again in a moment.")


ASKED = {"type": "http", "method": "POST", "path": "/login", "headers": [(b"host", b"127.0.0.1")]}


def part(data, *, more=True):
    return {"type": "http.request", "body": data, "more_body": more}


def test_a_body_reaches_the_app_whole():
    seen = []

    async def app(scope, receive, send):
        more = True
        while more:
            message = await receive()
            seen.append(message["body"])
            more = message["more_body"]

    parts = [bytes([number]) * 70_000 for number in range(20)]
    run(
        Guard(app),
        ASKED | {"headers": [*ASKED["headers"], FORM]},
        [*map(part, parts), part(b"", more=False)],
    )
    assert b"".join(parts) == b"".join(seen)


FORM = (b"content-type", b"multipart/form-data; boundary=b")


def test_a_body_that_is_cut_off_never_reaches_the_app():
    async def app(scope, receive, send):
        pytest.fail("it was asked")

    assert [] == run(Guard(app), dict(ASKED), [part(b"abc"), {"type": "http.disconnect"}])


def test_what_comes_in_is_bounded_for_all_together():
    bodies = BodyReader(max_total_bytes=100, small_body_reserve=0)

    async def app(scope, receive, send):
        found = await asyncio.to_thread(
            run, Guard(app, bodies=bodies), dict(ASKED), [part(b"a" * 41, more=False)]
        )
        assert 503 == found[0]["status"]
        assert found[1]["body"].startswith(b"The app is receiving too much data")
        asked.append(1)

    asked = []
    for _ in range(3):  # room is given back
        run(Guard(app, bodies=bodies), dict(ASKED), [part(b"a" * 60, more=False)])
    assert 3 == len(asked)
    assert body.MAX_TOTAL_BYTES < 2**30


def test_large_bodies_that_do_not_end_shut_out_no_question():
    bodies, asked = BodyReader(max_total_bytes=2 * body.SMALL_BODY_BYTES), []
    large, small = part(b"a" * (2 * body.SMALL_BODY_BYTES)), part(b"a", more=False)

    messages = [large]

    async def receive():
        if messages:
            return messages.pop()
        guard = Guard(answering, bodies=bodies)
        asked.append(await asyncio.to_thread(run, guard, dict(ASKED), [small]))
        return {"type": "http.disconnect"}

    async def collected():
        async with bodies.read(receive, 2**30):
            pass

    asyncio.run(collected())
    assert 200 == asked[0][0]["status"]


def test_patience_is_not_saved_up():
    """Whoever sends much at once may not hold it for minutes."""

    async def receive():
        if sent:
            await asyncio.sleep(3600)
        sent.append(1)
        return part(b"a" * 10**7)

    async def collected():
        async with BodyReader(timeout=0.1).read(receive, 2**30):
            pytest.fail("it is not whole")

    sent = []
    with pytest.raises(body.BodyError, match="too slowly"):
        asyncio.run(asyncio.wait_for(collected(), 20))


# Gradio counts its jobs with words of pandas that pandas is about to drop.
@pytest.mark.filterwarnings("ignore:'future.no_silent_downcasting'")
@pytest.mark.filterwarnings("ignore:The copy keyword is deprecated")
def test_answers_that_nobody_fetches_are_forgotten():
    with client_of(tiny()) as own:
        blocks = own.app.app.app.routes[-1].app.get_blocks()
        drop_unread(blocks, answers=3)
        names = []
        for _ in range(8):
            asked = {"data": ["sample:china", 1]}
            names.append(own.post("/gradio_api/call/predict", json=asked).json()["event_id"])
            while own.get("/gradio_api/queue/status").json()["queue_size"]:
                pass
        waiting = blocks._queue.pending_messages_per_session
        own.get(f"/gradio_api/call/predict/{names[-1]}")
        assert len(waiting) <= 4
