"""The app of a small network, served to a client that needs no socket."""

import asyncio

import pytest

import convscope
from tests.conftest import tiny_module

gradio = pytest.importorskip("gradio", reason="the extra 'app' is not installed")


def tiny():
    labels = ("tench", "church", "gas pump", "crane", "crane")
    return convscope.Network(tiny_module(), name="tiny", labels=labels, input_size=(32, 32))


def client_of(net, **options):
    """A client of the app behind its guard, which needs no socket."""
    from starlette.testclient import TestClient

    from convscope.app.serve import served

    async def made():  # where no loop runs, Gradio makes some and leaves them open
        return served(net, **options)

    return TestClient(
        asyncio.run(made()), base_url="http://127.0.0.1:7860", raise_server_exceptions=False
    )


@pytest.fixture
def desk():
    from convscope.app.desk import Desk

    return Desk(tiny())


@pytest.fixture
def functions(desk):
    """What the page may ask, by name."""
    from convscope.app.build import functions

    return functions(desk)


@pytest.fixture
def token(functions):
    """A sample photograph that was brought."""
    return functions["sample"]({"name": "china"})["token"]


@pytest.fixture(scope="module")
def client():
    """A client of the app behind its guard."""
    with client_of(tiny()) as client:
        yield client
