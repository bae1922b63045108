"""The app's speed and memory, measured over a real browser.

    python benchmarks/app.py                             the bundled network
    python benchmarks/app.py --model torchvision:squeezenet1_1 --weights FILE

Needs Playwright and Chromium. Figures are medians; see docs/app.md.
"""

from __future__ import annotations

import argparse
import io
import itertools
import random
import re
import shutil
import socket
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from PIL import Image
from playwright.sync_api import Page, sync_playwright

from convscope.images.read import sample
from timing import table

FLAGS = ["--no-sandbox", "--disable-gpu", "--use-fake-ui-for-media-stream"]
GOALS = {
    "first answer, s": "10",
    "memory idle, MB": "900",
    "first useful paint, s": "2",
    "opacity, ms": "50",
    "hover, ms": "50",
    "camera, pictures a second": "5",
}
STEPS = """async () => {
  const slider = document.querySelector('.panel input[type=range]'), took = [];
  const drawn = () => performance.getEntriesByName('sheet-drawn').length;
  const frame = () => new Promise(requestAnimationFrame);
  for (let turn = 0; turn < 2; turn++) for (let stage = 0; stage <= slider.max; stage++) {
    const before = drawn(), start = performance.now();
    if (Number(slider.value) === stage) continue;
    slider.value = stage;
    slider.dispatchEvent(new Event('input'));
    while (drawn() === before) await frame();
    await frame();
    took.push([turn, performance.now() - start]);
  }
  return took;
}"""
QUICK = """async ([where, kind, values]) => {
  const part = document.querySelector(where), took = [], box = part.getBoundingClientRect();
  for (const value of values) {
    const start = performance.now();
    if (kind === 'input') { part.value = value; part.dispatchEvent(new Event('input')); }
    else part.dispatchEvent(new PointerEvent('pointermove', {clientX: box.left + value, clientY: box.top + value / 2}));
    document.body.offsetHeight;
    await new Promise(requestAnimationFrame);
    took.push(performance.now() - start);
  }
  return took;
}"""


@contextmanager
def served(options: list[str]) -> Iterator[tuple[str, int, float]]:
    """The app in a process of its own: its address, its number, seconds to the first answer."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    start = time.perf_counter()
    command = [sys.executable, "-m", "convscope", "app", "--port", str(port), *options]
    server = subprocess.Popen(command, stdout=subprocess.DEVNULL)
    address = f"http://127.0.0.1:{port}/"
    try:
        while not answers(address):
            time.sleep(0.05)
        yield address, server.pid, time.perf_counter() - start
    finally:
        server.terminate()
        server.wait(20)


def answers(address: str) -> bool:
    """Whether the server is there."""
    try:
        urllib.request.urlopen(address, timeout=5).close()  # noqa: S310 - our own server
    except OSError:
        return False
    return True


def memory(process: int) -> float:
    """Megabytes that a process holds."""
    found = re.search(r"VmRSS:\s+(\d+)", Path(f"/proc/{process}/status").read_text("utf-8"))
    return int(found[1]) / 1024 if found else 0.0


def first_paint(page: Page, address: str) -> float:
    """Seconds from asking for the page to the photograph with its answer."""
    start = time.perf_counter()
    page.goto(address, wait_until="commit")
    page.wait_for_selector(".stage .says b")
    return time.perf_counter() - start


def steps(page: Page) -> tuple[float, float]:
    """Milliseconds from a step of the slider to the whole sheet: the first time, and again."""
    page.get_by_role("tab", name="Layers").click()
    page.wait_for_selector(".tiles[data-layer]")
    took = page.evaluate(STEPS)
    return tuple(statistics.median(t for turn, t in took if turn == which) for which in (0, 1))


def quick(page: Page, where: str, kind: str, values: list[int]) -> float:
    """Milliseconds from a movement to the next picture on the screen."""
    return statistics.median(page.evaluate(QUICK, [where, kind, values]))


def camera(page: Page, seconds: float) -> float:
    """Pictures a second of the tab Live: the median over its seconds."""
    page.get_by_role("tab", name="Live").click()
    page.get_by_role("button", name="Turn the camera on").click()
    page.wait_for_function("document.querySelector('.panel').dataset.frames > 5")
    counts = []
    for _ in range(int(seconds)):
        counts.append(
            page.evaluate("[performance.now(), +document.querySelector('.panel').dataset.frames]")
        )
        page.wait_for_timeout(1000)
    return statistics.median(
        1000 * (b[1] - a[1]) / (b[0] - a[0]) for a, b in itertools.pairwise(counts)
    )


def photographs(page: Page, numbers: range) -> None:
    """Bring so many different photographs, and look at two layers of each."""
    for number in numbers:
        buffer = io.BytesIO()
        colours = random.Random(number).randbytes(3 * 64 * 64)  # noqa: S311 - no secret
        Image.frombytes("RGB", (64, 64), colours).resize((640, 480)).save(buffer, "jpeg")
        file = {"name": f"{number}.jpg", "mimeType": "image/jpeg", "buffer": buffer.getvalue()}
        with page.expect_response(lambda r: "component_server" in r.url):
            page.set_input_files("input[type=file]", file)
        page.wait_for_function(
            "n => document.querySelector('img.view').alt.startsWith(n)", arg=file["name"]
        )
        page.wait_for_selector("body:not(:has([data-busy]))")


def sessions(browser: Any, address: str, count: int) -> None:
    """Open and close so many pages."""
    for _ in range(count):
        page = browser.new_page()
        first_paint(page, address)
        page.close()


def measured(options: list[str], seconds: float, *, long: bool) -> dict[str, float]:
    """All figures."""
    chromium = shutil.which("chromium") or shutil.which("google-chrome")
    video = film(Path(tempfile.gettempdir()) / "convscope-camera.y4m")
    flags = [
        *FLAGS,
        "--use-fake-device-for-media-stream",
        f"--use-file-for-fake-video-capture={video}",
    ]
    with served(options) as (address, process, started), sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium, args=flags)
        found = {"first answer, s": started, "memory idle, MB": memory(process)}
        first_paint(browser.new_page(), address)
        page = browser.new_page(viewport={"width": 1280, "height": 860})
        found["first useful paint, s"] = first_paint(page, address)
        page.wait_for_function("document.querySelector('.trust')?.textContent")
        found["opacity, ms"] = quick(
            page, ".controls input[type=range]", "input", [*range(0, 100, 5)]
        )
        found["slider step, first time, ms"], found["slider step, again, ms"] = steps(page)
        found["hover, ms"] = quick(page, ".tiles canvas", "hover", [*range(5, 300, 11)])
        found["memory after a visit, MB"] = memory(process)
        found["camera, pictures a second"] = camera(page, seconds)
        if long:
            page.get_by_role("tab", name="Layers").click()
            for start in (0, 100):
                photographs(page, range(start, start + 100))
                found[f"memory after {start + 100} photographs, MB"] = memory(process)
            sessions(browser, address, 50)
            found["memory after 50 sessions, MB"] = memory(process)
        browser.close()
    video.unlink()
    return found


def film(path: Path, frames: int = 30) -> Path:
    """A raw video of 640 by 480 that the browser takes for its camera."""
    picture = Image.open(sample("china")).resize((640, 480))
    with path.open("wb") as file:
        file.write(b"YUV4MPEG2 W640 H480 F30:1 Ip A1:1 C420jpeg\n")
        for step in range(frames):
            moved = picture.rotate(step / 4).convert("YCbCr").split()
            planes = [moved[0], *(part.resize((320, 240)) for part in moved[1:])]
            file.write(b"FRAME\n" + b"".join(part.tobytes() for part in planes))
    return path


def rows(found: dict[str, float], model: str) -> list[tuple[object, ...]]:
    """Each figure beside its goal."""
    goals = {**GOALS, "slider step, first time, ms": "300" if model == "bundled" else "500"}
    return [(name, f"{value:.1f}", goals.get(name, "")) for name, value in found.items()]


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", default="bundled")
    parser.add_argument("--weights")
    parser.add_argument("--seconds", type=float, default=60, help="of the camera")
    parser.add_argument("--long", action="store_true", help="200 photographs and 50 sessions too")
    given = parser.parse_args()
    options = ["--model", given.model, *(["--weights", given.weights] if given.weights else [])]
    found = measured(options, given.seconds, long=given.long)
    table(f"The app with {given.model}", ("figure", "value", "goal"), rows(found, given.model))


if __name__ == "__main__":
    main()
