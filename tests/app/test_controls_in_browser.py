"""Keyboard, finger and small mistakes, in a real browser."""

import pytest

from convscope.images.read import sample
from tests.app.conftest import opened

pytestmark = pytest.mark.browser
pytest.importorskip("gradio", reason="the extra 'app' is not installed")
SHEET = ".panel .tiles[data-layer]"
HELD = "document.activeElement.getAttribute('aria-label') || document.activeElement.textContent"


def test_controls_stay_in_hand(page, address):
    opened(page, address + "#tab=channel&layer=stage:3&channel=3")
    page.get_by_role("button", name="next").focus()
    page.keyboard.press("Enter")
    page.wait_for_selector("text=Channel 4 of stage 3")
    assert "next" in page.evaluate(HELD)
    page.get_by_role("tab", name="Filters").click()
    page.get_by_label("Order").select_option("noise")
    page.get_by_label("Order").focus()
    page.keyboard.press("ArrowUp")
    page.wait_for_timeout(300)
    assert "Order" == page.evaluate(HELD)
    page.get_by_role("tab", name="Make").click()
    page.get_by_label("What").focus()
    page.keyboard.press("ArrowDown")
    page.wait_for_selector("text=Octaves")
    assert "What" == page.evaluate(HELD)


def test_channels_end_where_they_end(page, address):
    opened(page, address + "#tab=channel&layer=stage:1&channel=0")
    last = int(page.get_by_role("spinbutton", name="Channel").get_attribute("max"))
    page.get_by_role("button", name="previous").click()
    assert "channel=0" in page.url
    page.get_by_role("spinbutton", name="Channel").fill(str(last))
    page.get_by_role("spinbutton", name="Channel").blur()
    page.wait_for_selector(f"text=Channel {last} of stage 1")
    page.get_by_role("button", name="next").click()
    page.wait_for_timeout(200)
    assert f"channel={last}" in page.url
    page.get_by_role("spinbutton", name="Channel").fill("-2")
    page.get_by_role("spinbutton", name="Channel").blur()
    page.wait_for_selector(f"text=Channel must be an integer from 0 to {last}.")
    assert str(last) == page.get_by_role("spinbutton", name="Channel").input_value()


def test_the_keys_frame_the_tile_they_reach(page, address):
    opened(page, address + "#tab=layers&layer=stage:3")
    page.wait_for_selector(SHEET)
    page.locator(".tiles canvas").focus()
    for _ in range(3):
        page.keyboard.press("ArrowRight")
    canvas, mark = (page.locator(s).bounding_box() for s in (".tiles canvas", ".tiles .mark"))
    assert 1.5 * mark["width"] < mark["x"] - canvas["x"] < 2.5 * mark["width"]
    assert "Channel 2" in page.locator(".read").inner_text()
    page.keyboard.press("Enter")
    page.wait_for_selector("text=Channel 2 of stage 3")


@pytest.fixture
def phone(browser):
    context = browser.new_context(has_touch=True, viewport={"width": 380, "height": 780})
    yield context.new_page()
    context.close()


def test_a_finger_points_first_and_opens_then(phone, address):
    opened(phone, address + "#tab=layers&layer=stage:3")
    phone.wait_for_selector(SHEET)
    phone.locator(".tiles canvas").tap(position={"x": 60, "y": 60})
    assert "Tap it again to open it." in phone.locator(".read").inner_text()
    assert phone.locator(".tiles .mark").is_visible()
    phone.locator(".tiles canvas").tap(position={"x": 60, "y": 60})
    phone.wait_for_selector("text=What drives it here")
    assert 0 == phone.evaluate("scrollY")


def test_a_finger_on_a_map_covers_it_and_the_words_are_below(phone, address):
    opened(phone, address + "#tab=occlude")
    phone.wait_for_selector(".cards .card:nth-child(5)", timeout=40_000)
    phone.locator(".cards .photo").nth(2).tap(position={"x": 60, "y": 60})
    assert "with the window where you point" in phone.locator(".cards .now").nth(2).inner_text()


def test_a_target_in_the_address_may_be_a_name_or_a_channel(page, address):
    opened(page, address + "#tab=look&target=class:tench")
    page.wait_for_selector(".cards h3 >> text=For tench")
    assert page.locator(".complaint").is_hidden()
    opened(page, address + "?again#tab=look&target=conv:3:5")
    page.wait_for_selector(".cards h3 >> text=For conv:3:5")  # at a layer that the channel reads
    page.get_by_label("Method").select_option("gradient")
    page.wait_for_selector(".cards h3 >> text=For conv:3:5")
    assert "conv:3:5" == page.get_by_label("Class", exact=True).input_value()


def test_make_follows_the_photograph_until_something_is_chosen(page, address):
    opened(page, address + "#tab=make")
    field, listed = page.get_by_label("Class or channel"), page.get_by_label("Class", exact=True)
    before = field.input_value()
    page.set_input_files("input[type=file]", str(sample("flower")))
    page.wait_for_function("document.querySelector('.says b').textContent === 'golf ball'")
    assert before != field.input_value() == listed.input_value()
    field.fill("conv:3:5")
    field.blur()
    assert "" == listed.input_value()
    field.fill(before)
    field.blur()
    assert before == listed.input_value()


def test_the_camera_goes_on_and_its_picture_is_asked_about(page, address):
    opened(page, address + "#tab=live&layer=stage:3")
    page.get_by_role("button", name="Turn the camera on").click()
    page.wait_for_function("document.querySelector('.panel').dataset.frames > 3", timeout=30_000)
    assert "Channel 0 of stage 3." == page.locator(".live figcaption p").first.inner_text()
    page.set_input_files("input[type=file]", str(sample("flower")))
    page.wait_for_function("document.querySelector('.says b').textContent === 'golf ball'")
    assert page.get_by_role("button", name="Turn it off").is_visible()
    page.get_by_label("Follow channel").fill("-2")
    page.get_by_label("Follow channel").blur()
    page.wait_for_selector("text=Follow channel must be an integer from 0 to")
    assert page.get_by_role("button", name="Turn it off").is_visible()
    page.evaluate("document.querySelector('.live .bar').click()")
    page.wait_for_selector("text=Where the evidence is")
    assert "camera.jpg" in page.locator(".stage img.view").get_attribute("alt")


def test_without_encryption_copying_and_the_camera_say_so(page, address):
    page.add_init_script(
        "for (const name of ['clipboard', 'mediaDevices']) Object.defineProperty(navigator, name, {value: undefined})"
    )
    opened(page, address)
    page.wait_for_selector(".code summary")
    page.locator(".code summary").first.click()
    page.get_by_role("button", name="copy").first.click()
    page.wait_for_selector(".code .quiet >> text=copied")
    page.get_by_role("button", name="Camera").click()
    page.wait_for_selector("text=needs an encrypted connection")
    assert [] == page.errors
