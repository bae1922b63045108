"""The page in a real browser: it reads well on every screen and asks nobody for anything."""

import shutil

import pytest

import convscope
from convscope.report.tour import tour

pytestmark = pytest.mark.browser
FLAGS = ["--no-sandbox", "--disable-gpu", "--disable-background-networking", "--disable-sync"]


@pytest.fixture(scope="module")
def browser():
    sync_api = pytest.importorskip("playwright.sync_api")
    path = next(
        filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None
    )
    if path is None:
        pytest.skip("no Chromium on this machine")
    with sync_api.sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=path, args=FLAGS)
        yield browser
        browser.close()


@pytest.fixture(scope="module")
def address(tmp_path_factory):
    page = tour(convscope.load(), "sample:china", name="china.jpg")
    return page.write(tmp_path_factory.mktemp("tour")).as_uri()


@pytest.mark.parametrize("width", [360, 768, 1280])
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_fits_every_screen(browser, address, width, scheme):
    page = browser.new_page(viewport={"width": width, "height": 800}, color_scheme=scheme)
    page.goto(address)
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    loaded = page.evaluate("[...document.images].every(i => i.complete && i.naturalWidth > 0)")
    assert loaded
    page.close()


def test_asks_nobody_for_anything_and_has_no_errors(browser, address):
    page = browser.new_page()
    asked, errors = [], []
    page.on("request", lambda request: asked.append(request.url))
    page.on(
        "console", lambda message: errors.append(message.text) if message.type == "error" else None
    )
    page.on("pageerror", lambda error: errors.append(str(error)))
    page.goto(address)
    assert [] == [url for url in asked if not url.startswith(("file:", "data:"))]
    assert [] == errors
    page.close()


def test_the_slider_fades_the_map(browser, address):
    page = browser.new_page()
    page.goto(address)
    slider = page.locator("#evidence input[type=range]").first
    for value, opacity in (("0", "0"), ("80", "0.8"), ("100", "1")):
        slider.fill(value)
        assert opacity == page.locator("#evidence img.over").first.evaluate("e => e.style.opacity")
    page.close()


def test_dark_and_light_can_both_be_read(browser, address):
    def contrast(scheme):
        page = browser.new_page(color_scheme=scheme)
        page.goto(address)
        colours = page.evaluate(
            "[getComputedStyle(document.body).color, getComputedStyle(document.body).backgroundColor]"
        )
        page.close()
        light = [sum(int(v) for v in c[c.index("(") + 1 : -1].split(",")[:3]) for c in colours]
        return light[0] - light[1]

    assert contrast("light") < -500
    assert contrast("dark") > 500
