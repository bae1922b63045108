"""The app of a small network for a client that needs no socket, and the whole app in a browser."""

import asyncio
import functools
import os
import shutil
import socket
import subprocess
import sys
import time
import urllib.request
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import convscope
from convscope.images.read import sample
from tests.app.served import over_loopback
from tests.cli.conftest import run  # noqa: F401 - a fixture
from tests.conftest import tiny_module

gradio = pytest.importorskip("gradio", reason="the extra 'app' is not installed")
FLAGS = [
    *("--no-sandbox", "--disable-gpu", "--disable-background-networking", "--disable-sync"),
    *("--use-fake-device-for-media-stream", "--use-fake-ui-for-media-stream"),
]


def tiny():
    labels = ("tench", "church", "gas pump", "crane", "crane")
    return convscope.Network(tiny_module(), name="tiny", labels=labels, input_size=(32, 32))


@functools.cache
def decoder():
    """Child processes that all apps of these tests share: each needs a second to start."""
    from convscope.app.photo_decoder import PhotoDecoder

    return PhotoDecoder()


def client_of(net, **options):
    """A client of the app behind its guard, which needs no socket."""
    from starlette.testclient import TestClient

    from convscope.app.serve import create_app

    async def made():  # where no loop runs, Gradio makes some and leaves them open
        return create_app(net, decoder=decoder(), **options)

    return TestClient(
        asyncio.run(made()), base_url="http://127.0.0.1:7860", raise_server_exceptions=False
    )


@pytest.fixture
def state():
    from convscope.app.shared_state import SharedState

    return SharedState(tiny(), decoder=decoder())


@pytest.fixture
def functions(state):
    """What the page may ask, by name."""
    from convscope.app.build import page_functions

    return page_functions(state)


@pytest.fixture
def token(functions):
    """A sample photograph that was brought."""
    return functions["sample"]({"name": "china"})["token"]


@pytest.fixture(scope="module")
def client():
    """A client of the app behind its guard."""
    with client_of(tiny()) as client:
        yield client


@pytest.fixture(scope="module")
def loopback():
    """The port of a real server of the app, in this process."""
    from convscope.app.connection import Connection
    from convscope.app.serve import create_app

    async def made():
        return create_app(tiny(), decoder=decoder())

    with over_loopback(asyncio.run(made()), Connection) as port:
        yield port


def film(path, frames=30):
    """A raw video that the browser takes for its camera: the sample photograph, moving."""
    picture = Image.open(sample("china")).resize((640, 480)).convert("YCbCr")
    with path.open("wb") as file:
        file.write(b"YUV4MPEG2 W640 H480 F30:1 Ip A1:1 C420jpeg\n")
        for step in range(frames):
            y, *colours = (np.roll(np.asarray(c), 4 * step, 1) for c in picture.split())
            planes = [y, *(c[::2, ::2] for c in colours)]
            file.write(b"FRAME\n" + b"".join(p.tobytes() for p in planes))
    return path


@pytest.fixture(scope="module")
def browser(tmp_path_factory):
    sync_api = pytest.importorskip("playwright.sync_api")
    path = next(
        filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None
    )
    if path is None:
        pytest.skip("no Chromium on this machine")
    video = film(tmp_path_factory.mktemp("film") / "camera.y4m")
    flags = [*FLAGS, f"--use-file-for-fake-video-capture={video}"]
    with sync_api.sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=path, args=flags)
        yield browser
        browser.close()


@pytest.fixture(scope="module")
def address(tmp_path_factory):
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    log = (tmp_path_factory.mktemp("log") / "app.log").open("w")
    here = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[2] / "src")}
    command = [sys.executable, "-m", "convscope", "app", "--port", str(port)]
    server = subprocess.Popen(command, stdout=log, stderr=log, env=here)
    address = f"http://127.0.0.1:{port}/"
    for _ in range(300):
        try:
            urllib.request.urlopen(address, timeout=1)
            break
        except OSError:
            time.sleep(0.1)
    yield address
    server.terminate()
    server.wait(10)
    log.close()
    text = Path(log.name).read_text("utf-8")
    assert "Traceback" not in text, text


@pytest.fixture
def page(browser):
    page = browser.new_page(viewport={"width": 1280, "height": 860})
    page.asked, page.errors = [], []
    page.on("request", lambda request: page.asked.append(request.url))
    page.on("console", lambda m: page.errors.append(m.text) if m.type == "error" else None)
    page.on("pageerror", lambda error: page.errors.append(str(error)))
    yield page
    page.close()


def opened(page, address):
    page.goto(address)
    page.wait_for_selector(".answer .bars")
    return page


def says(page):
    return page.locator(".stage .says b").inner_text()
