"""Links, the back button, and layers that are no stages, in a real browser."""

import pytest

from tests.app.conftest import opened

pytestmark = pytest.mark.browser
pytest.importorskip("gradio", reason="the extra 'app' is not installed")
FLOWER = "document.querySelector('.says b').textContent === 'golf ball'"


def test_a_link_in_the_same_tab_brings_its_photograph(page, address):
    opened(page, address + "#tab=look&photo=china")
    page.evaluate("location.hash = 'tab=layers&layer=stage:3&photo=flower'")
    page.wait_for_function(FLOWER)
    page.wait_for_selector('.tiles[data-layer="stage:3"]')


def test_back_brings_the_photograph_back(page, address):
    opened(page, address + "#tab=look&photo=flower")
    page.get_by_role("tab", name="Network").click()
    page.get_by_role("button", name="a tower").click()
    page.wait_for_function("document.querySelector('.says b').textContent === 'church'")
    page.go_back()
    page.wait_for_function(FLOWER)
    assert "photo=flower" in page.url


def test_a_link_for_another_network_is_said_and_stays(page, address):
    opened(page, address + "#model=torchvision:vgg16&tab=occlude")
    page.wait_for_selector("text=This link was made for torchvision:vgg16")
    page.wait_for_timeout(1500)
    assert page.locator(".complaint").is_visible()


def test_a_layer_that_is_no_stage(page, address):
    opened(page, address + "#tab=layers&layer=conv:3")
    page.wait_for_selector('.tiles[data-layer="conv:3"]')
    assert "is the whole photograph" not in page.locator(".read").inner_text()
    assert "conv:3" == page.get_by_label("Layer", exact=True).input_value()
    depth = int(page.get_by_label("Depth").input_value())
    assert depth > 0
    page.keyboard.press("ArrowRight")
    page.wait_for_selector(f'.tiles[data-layer="stage:{depth + 2}"]')
