"""A real server over loopback, of a small network, in this process."""

import asyncio
import socket
import threading
from contextlib import contextmanager

import uvicorn


@contextmanager
def over_loopback(app, connection):
    """The port of an ASGI app."""
    config = uvicorn.Config(app, log_level="error", http=connection, ws="none", lifespan="on")
    config.timeout_graceful_shutdown = 1
    server = uvicorn.Server(config)
    listener = socket.socket()
    listener.bind(("127.0.0.1", 0))
    listener.listen(64)
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]})
    thread.start()
    try:
        yield listener.getsockname()[1]
    finally:
        server.should_exit = True
        thread.join()
        listener.close()


def read_to_the_end(connection):
    """All that a server says before it closes."""
    said = b""
    while piece := connection.recv(2**16):
        said += piece
    return said


def run(app, scope, messages):
    """What an ASGI app sends for messages that come one after the other."""
    sent, coming = [], iter(messages)

    async def receive():
        message = next(coming, None)
        if message is None:
            await asyncio.Event().wait()
        return message

    async def send(message):
        sent.append(message)

    asyncio.run(app(scope, receive, send))
    return sent
