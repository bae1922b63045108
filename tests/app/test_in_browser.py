"""The app as a person uses it, in a real browser."""

import io
import re

import pytest
from PIL import Image

from convscope.app.photos import MAX_PHOTOS
from convscope.images.read import sample
from tests.app.conftest import opened, says

pytestmark = pytest.mark.browser
pytest.importorskip("gradio", reason="the extra 'app' is not installed")
SHEET = ".panel .tiles[data-layer]"


def test_it_asks_nobody_else_and_makes_no_errors(page, address):
    opened(page, address)
    for tab in page.locator("[role=tab]").all():
        tab.click()
        page.wait_for_timeout(300)
    own = (address, "data:", "blob:")
    assert [] == [url for url in page.asked if not url.startswith(own)]
    assert [] == page.errors


def test_an_upload_is_answered(page, address):
    opened(page, address)
    assert "church" == says(page)
    page.set_input_files("input[type=file]", str(sample("flower")))
    page.wait_for_function("document.querySelector('.says b').textContent === 'golf ball'")
    page.wait_for_selector(".cards .card img.over")
    assert 2 == page.locator(".strip .thumb").count()
    page.locator(".strip .thumb").first.click()
    page.wait_for_function("document.querySelector('.says b').textContent === 'church'")


def test_a_photograph_is_dropped_or_pasted(page, address):
    opened(page, address)
    data = list(sample("flower").read_bytes())
    page.evaluate(
        """data => {
            const moved = new DataTransfer();
            moved.items.add(new File([new Uint8Array(data)], "flower.jpg", {type: "image/jpeg"}));
            document.dispatchEvent(new DragEvent("drop", {dataTransfer: moved, bubbles: true, cancelable: true}));
        }""",
        data,
    )
    page.wait_for_function("document.querySelector('.says b').textContent === 'golf ball'")


def test_the_check_of_trust_is_a_sentence(page, address):
    opened(page, address)
    page.wait_for_function("document.querySelector('.trust')?.textContent.includes('Checked: ')")


def test_opacity_asks_the_server_nothing(page, address):
    opened(page, address)
    page.wait_for_function("document.querySelector('.trust')?.textContent")
    page.asked.clear()
    for value in ("0", "80", "100"):
        page.get_by_label("Heat").fill(value)
        seen = page.locator(".cards .over").first.evaluate("e => getComputedStyle(e).opacity")
        assert float(value) / 100 == pytest.approx(float(seen))
    assert [] == [url for url in page.asked if "gradio_api" in url and "heartbeat" not in url]


def test_the_slider_goes_through_all_stages(page, address):
    opened(page, address + "#tab=layers&layer=stage:1")
    page.wait_for_selector(SHEET)
    slider = page.get_by_label("Depth")
    last = int(slider.get_attribute("max"))
    for stage in range(last + 1):
        slider.fill(str(stage))
        page.wait_for_selector(f'.tiles[data-layer="stage:{stage + 1}"] canvas')
        assert f"layer=stage:{stage + 1}" in page.url
    size = page.locator(".tiles canvas").evaluate("c => [c.width, c.height]")
    assert min(size) > 100


def test_hover_shows_what_a_cell_sees_and_click_opens_the_channel(page, address):
    opened(page, address + "#tab=layers&layer=stage:3")
    page.wait_for_selector(SHEET)
    page.locator(".tiles canvas").hover(position={"x": 130, "y": 60})
    assert re.match(r"Channel \d+: maximum [\d.]+, mean", page.locator(".read").inner_text())
    assert page.locator(".stage .sees").is_visible()
    page.locator(".tiles canvas").click(position={"x": 130, "y": 60})
    page.wait_for_selector("text=What drives it here")
    assert "tab=channel" in page.url


def test_sorting_by_strength(page, address):
    opened(page, address + "#tab=layers&layer=stage:3")
    page.wait_for_selector(SHEET)
    page.get_by_label("Order").select_option("mean")
    means = []
    for x in (20, 300, 700):
        page.locator(".tiles canvas").hover(position={"x": x, "y": 20})
        means.append(float(re.search(r"mean ([\d.]+)\.", page.locator(".read").inner_text())[1]))
    assert sorted(means, reverse=True) == means


def test_arrows_move_through_layers_and_channels(page, address):
    opened(page, address + "#tab=layers&layer=stage:3")
    page.wait_for_selector(SHEET)
    page.keyboard.press("ArrowRight")
    page.wait_for_selector('.tiles[data-layer="stage:4"]')
    page.goto(address + "#tab=channel&layer=stage:4&channel=7")
    page.reload()
    page.wait_for_selector("text=Activation map")
    page.keyboard.press("ArrowRight")
    page.wait_for_function("location.hash.includes('channel=8')")
    page.keyboard.press("ArrowDown")
    page.wait_for_function("location.hash.includes('layer=stage:5')")


def test_a_link_opens_the_same_view_and_back_goes_back(page, address):
    opened(page, address + "#tab=channel&layer=stage:8&channel=31&photo=flower")
    page.wait_for_selector("text=Channel 31 of stage 8")
    assert "golf ball" == says(page)
    page.get_by_role("tab", name="Network").click()
    page.wait_for_selector("table")
    page.go_back()
    page.wait_for_selector("text=Channel 31 of stage 8")


def test_a_running_synthesis_is_stopped_and_keeps_the_best(page, address):
    opened(page, address + "#tab=make")
    page.get_by_label("Steps").fill("4000")
    page.get_by_label("Steps").blur()
    page.get_by_role("button", name="Make it").click()
    page.wait_for_selector("img.large")
    first = page.locator("img.large").get_attribute("src")
    page.wait_for_function("first => document.querySelector('img.large').src !== first", arg=first)
    page.get_by_role("button", name="Stop").click()
    page.wait_for_selector(".keep", timeout=5000)
    with page.expect_download() as kept:
        page.get_by_role("button", name="picture", exact=True).click()
    with Image.open(kept.value.path()) as picture:
        assert "synthesize" in picture.text["convscope"]


def test_closing_the_page_ends_its_job(browser, page, address):
    other = opened(browser.new_page(), address + "#tab=make")
    other.get_by_label("Steps").fill("4000")
    other.get_by_label("Steps").blur()
    other.get_by_role("button", name="Make it").click()
    other.wait_for_selector("img.large")
    other.close()
    opened(page, address + "#tab=make")
    page.get_by_label("Steps").fill("8")
    page.get_by_label("Steps").blur()
    page.get_by_role("button", name="Make it").click()
    page.wait_for_selector(".keep", timeout=15000)


def test_pointing_at_the_photograph_covers_it(page, address):
    opened(page, address + "#tab=occlude")
    page.wait_for_selector(".cards .card:nth-child(5)", timeout=30000)
    page.locator(".stage .photo").hover(position={"x": 60, "y": 60})
    assert "Covered here" in page.locator(".stage .says").inner_text()
    assert page.locator(".sees.covering").is_visible()


def test_the_camera_is_followed(page, address):
    opened(page, address + "#tab=live")
    page.get_by_role("button", name="Turn the camera on").click()
    page.wait_for_function("document.querySelector('.panel').dataset.frames > 20", timeout=30000)
    assert 5 == page.locator(".live .bars li").count()
    page.get_by_role("button", name="Turn it off").click()


def test_a_still_from_the_camera_becomes_the_photograph(page, address):
    opened(page, address)
    page.get_by_role("button", name="Camera").click()
    page.wait_for_selector(".strip .thumb:nth-child(2)", timeout=15000)
    assert "camera.jpg" in page.locator(".stage img.view").get_attribute("alt")


def test_two_people_at_once_each_see_their_own(browser, address):
    pages = [opened(browser.new_page(), address) for _ in range(2)]
    pages[1].set_input_files("input[type=file]", str(sample("flower")))
    pages[1].wait_for_function("document.querySelector('.says b').textContent === 'golf ball'")
    for page in pages:
        page.get_by_role("tab", name="Layers").click()
        page.wait_for_selector(SHEET)
    assert ["church", "golf ball"] == [says(page) for page in pages]
    for page in pages:
        page.close()


def bomb():
    """A small file whose header claims 400 million pixels."""
    import zlib

    buffer = io.BytesIO()
    Image.new("RGB", (8, 8)).save(buffer, "png")
    data = bytearray(buffer.getvalue())
    data[16:24] = (20_000).to_bytes(4) * 2
    data[29:33] = zlib.crc32(data[12:29]).to_bytes(4)
    return bytes(data)


@pytest.mark.parametrize(
    ("name", "data"),
    [
        ("text.png", b"I am text"),
        ("empty.png", b""),
        ("cut.jpg", sample("china").read_bytes()[:3000]),
        ("bomb.png", bomb()),
        ("large.png", b"\x89PNG" + bytes(25 * 2**20)),
    ],
)
def test_a_bad_upload_is_one_sentence_and_the_app_goes_on(page, address, name, data):
    opened(page, address)
    page.set_input_files(
        "input[type=file]", {"name": name, "mimeType": "image/png", "buffer": data}
    )
    page.wait_for_selector(".complaint:visible")
    sentence = page.locator(".complaint").inner_text()
    assert sentence.endswith((".", ")."))
    assert "Traceback" not in sentence
    assert "/" not in sentence
    assert "church" == says(page)
    page.set_input_files("input[type=file]", str(sample("flower")))
    page.wait_for_function("document.querySelector('.says b').textContent === 'golf ball'")


def test_a_hundred_files_are_too_many(page, address):
    opened(page, address)
    small = io.BytesIO()
    Image.new("RGB", (20, 20)).save(small, "png")
    files = [
        {"name": f"{i}.png", "mimeType": "image/png", "buffer": small.getvalue()}
        for i in range(100)
    ]
    page.set_input_files("input[type=file]", files)
    page.wait_for_selector("text=Only the first 12 of 100 photographs were used.", timeout=15000)


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [360, 768])
def test_every_tab_fits_a_phone(browser, address, width, scheme):
    page = browser.new_page(viewport={"width": width, "height": 780}, color_scheme=scheme)
    opened(page, address)
    for tab in page.locator("[role=tab]").all():
        tab.click()
        page.wait_for_timeout(400)
        assert page.evaluate("document.documentElement.scrollWidth") <= width
    page.close()


def test_dark_and_light_can_both_be_read(browser, address):
    def contrast(scheme):
        page = opened(browser.new_page(color_scheme=scheme), address)
        colours = page.evaluate(
            """[".says b", "body"].map((where, i) => getComputedStyle(document.querySelector(where))
                [i ? "backgroundColor" : "color"])"""
        )
        page.close()
        light = [sum(map(int, re.findall(r"\d+", c)[:3])) for c in colours]
        return light[0] - light[1]

    assert contrast("light") < -500
    assert contrast("dark") > 500


def test_every_picture_has_an_alternative_text(page, address):
    opened(page, address)
    page.wait_for_selector(".section .card")
    missing = page.evaluate(
        "[...document.querySelectorAll('.convscope img')].filter(i => i.alt === null || !i.hasAttribute('alt')).length"
    )
    assert 0 == missing
    named = page.evaluate(
        "[...document.querySelectorAll('.convscope canvas')].every(c => c.getAttribute('aria-label'))"
    )
    assert named


def test_a_photograph_that_was_forgotten_is_brought_again_by_the_page(page, address):
    opened(page, address)
    page.set_input_files("input[type=file]", str(sample("flower")))
    page.wait_for_function("document.querySelector('.says b').textContent === 'golf ball'")
    forget(page, address)
    page.get_by_role("tab", name="Layers").click()
    page.wait_for_selector(SHEET)
    assert page.locator(".complaint").is_hidden()


def forget(page, address):
    """Bring so many photographs by another way that the page's own is pushed out."""
    config = page.request.get(f"{address}config").json()
    number = next(c["id"] for c in config["components"] if c["type"] == "html")
    form = {"fn_name": "photograph", "session_hash": "a", "component_id": str(number)}
    for shade in range(MAX_PHOTOS + 1):
        buffer = io.BytesIO()
        Image.new("RGB", (32, 32), (shade, 0, 0)).save(buffer, "png")
        file = {"name": "a.png", "mimeType": "image/png", "buffer": buffer.getvalue()}
        sent = page.request.post(
            f"{address}gradio_api/component_server", multipart={**form, "file": file}
        )
        assert "token" in sent.json()


REFUSALS = [
    (
        lambda route: route.abort(),
        "The server cannot be reached: it was stopped, or the connection was lost. Try again later, or reload the page.",
    ),
    (lambda route: route.fulfill(status=401), "You are no longer signed in; reload the page."),
    (
        lambda route: (
            route.continue_() if "app_id" in route.request.url else route.fulfill(status=408)
        ),
        "The server refused this: it arrived too slowly, was too large, or the server received too much at once. Please try again.",
    ),
]


@pytest.mark.parametrize(("answer", "expected"), REFUSALS, ids=["down", "out", "slow"])
def test_a_question_without_an_answer_says_why(page, address, answer, expected):
    opened(page, address)
    page.route(re.compile("gradio_api/(component_server|app_id)"), answer)
    page.set_input_files("input[type=file]", str(sample("flower")))
    page.wait_for_selector(".complaint:not([hidden])")
    assert expected == page.locator(".complaint").inner_text()
