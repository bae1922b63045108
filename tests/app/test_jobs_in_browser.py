"""Long jobs as a person starts, changes and stops them, in a real browser."""

import pytest

from convscope.images.read import sample
from tests.app.conftest import opened

pytestmark = pytest.mark.browser
pytest.importorskip("gradio", reason="the extra 'app' is not installed")
SOON = 40_000  # milliseconds; the machine may be busy


def make(page):
    page.get_by_role("button", name="Make it").click()


def fill(page, label, value):
    page.get_by_label(label, exact=True).fill(value)
    page.get_by_label(label, exact=True).blur()


def test_another_photograph_while_the_first_is_covered(page, address):
    opened(page, address + "#tab=occlude")
    page.wait_for_timeout(700)
    page.set_input_files("input[type=file]", str(sample("flower")))
    first = page.locator(".cards.small h3").first  # the tower's, where it was done before
    first.filter(has_text="golf ball").wait_for(timeout=SOON)
    page.wait_for_timeout(1500)  # what comes late of the tower would come by now
    assert "golf ball" == first.inner_text()


def test_two_photographs_one_right_after_the_other(page, address):
    opened(page, address + "#tab=look")
    page.set_input_files("input[type=file]", str(sample("flower")))
    page.wait_for_selector(".thumb:nth-child(2)")
    page.get_by_role("tab", name="Occlude").click()
    page.evaluate("document.querySelectorAll('.thumb')[0].click()")
    page.evaluate("document.querySelectorAll('.thumb')[1].click()")
    page.wait_for_selector(".cards.small .card:nth-child(5)", timeout=SOON)
    assert "golf ball" == page.locator(".cards.small h3").first.inner_text()


def test_the_next_channel_is_made_while_the_last_one_ends(page, address):
    opened(page, address + "#tab=channel&layer=stage:3&channel=3")
    make(page)
    page.wait_for_selector(".runner >> text=/step|working/")
    page.get_by_role("button", name="next").click()
    page.wait_for_selector("text=Channel 4 of stage 3")
    make(page)
    page.wait_for_selector(".keep", timeout=SOON)


def test_another_kind_of_picture_while_one_is_made(page, address):
    opened(page, address + "#tab=make")
    page.get_by_label("What").select_option("invert")
    make(page)
    page.wait_for_timeout(500)
    page.get_by_label("What").select_option("dream")
    fill(page, "Octaves", "1")
    make(page)
    page.wait_for_selector("img.large", timeout=SOON)
    page.wait_for_selector(".keep", timeout=SOON)


def test_stop_ends_what_has_not_answered(page, address):
    opened(page, address + "#tab=make")
    page.route("**/queue/join*", lambda route: None)  # the server is not reached
    make(page)
    page.wait_for_selector("text=waiting for a free slot")
    page.get_by_role("button", name="Stop").click()
    page.get_by_role("button", name="Make it").wait_for(timeout=1000)


def test_what_was_made_before_is_gone_while_another_grows(page, address):
    opened(page, address + "#tab=make")
    fill(page, "Steps", "4")
    make(page)
    page.wait_for_selector(".keep", timeout=SOON)
    fill(page, "Steps", "600")
    make(page)
    page.wait_for_selector(".runner >> text=/step/")
    assert 0 == page.locator(".keep").count()
    assert "A picture in progress" == page.locator("img.large").get_attribute("alt")
    page.get_by_role("button", name="Stop").click()
    page.wait_for_selector(".keep", timeout=SOON)


def run_code(text):
    known = {}
    *lines, last = text.split("\n")
    exec("\n".join(lines), known)  # noqa: S102 - the page offers it to be run
    return eval(last, known)  # noqa: S307


@pytest.mark.parametrize("tab", ["look", "layers", "channel", "filters", "network"])
def test_the_code_runs_as_it_is_copied(page, address, tab):
    opened(page, address + f"#tab={tab}&layer=stage:3&channel=3")
    page.wait_for_selector(".panel .code code", state="attached")
    page.wait_for_timeout(1000)
    texts = page.locator(".panel .code code").all_text_contents()
    assert texts
    for text in texts:
        assert run_code(text) is not None, text


def test_a_slow_method_shows_no_old_map_and_tells_how_far_it_is(page, address):
    opened(page, address)
    page.wait_for_selector(".cards .card img.over")
    page.get_by_label("Method").select_option("scorecam")
    page.wait_for_selector(".runner >> text=/step|working/")
    assert 0 == page.locator(".panel > .cards .card").count()
    page.get_by_label("Method").select_option("ablationcam")
    page.wait_for_selector(".panel > .cards .card:nth-child(2)", timeout=SOON)
    page.locator(".panel > .cards .code summary").first.click()
    assert "ablationcam" in page.locator(".panel > .cards .code code").first.inner_text()
    page.wait_for_selector(".trust >> text=Checked", timeout=SOON)
    assert 0 == page.locator(".runner").count()


def test_the_word_of_waiting_goes_when_the_maps_are_there(page, address):
    opened(page, address)
    page.route(
        "**/component_server*",
        lambda route: None if "check" in (route.request.post_data or "") else route.continue_(),
    )
    page.get_by_label("Method").select_option("layercam")
    page.wait_for_selector(".cards .card:nth-child(2)")
    page.get_by_label("Method").select_option("gradcam")
    page.wait_for_function(
        "[...document.querySelectorAll('.cards .code code')].some(c => c.textContent.includes('gradcam'))"
    )


def test_a_server_that_was_stopped_or_started_again_ends_the_job_in_words(page, address):
    opened(page, address + "#tab=make")
    page.get_by_label("Steps").fill("4000")
    page.get_by_role("button", name="Make it").click()
    page.wait_for_selector("img.large", timeout=SOON)
    page.route("**/app_id", lambda route: route.fulfill(json={"app_id": 1}))
    page.wait_for_selector(".complaint:not([hidden])", timeout=SOON)
    expected = "The server was restarted, so this was lost; please start it again."
    assert expected == page.locator(".complaint").inner_text()
    assert page.get_by_role("button", name="Make it").is_visible()
