"""What the page asks, as plain functions: right answers, and one sentence where there is none."""

import io
import json
import threading
import time

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

import convscope
from convscope.results.colour_scale import weakness_in_words

pytest.importorskip("gradio", reason="the extra 'app' is not installed")

from convscope.app.image_encoding import encode_sprite
from convscope.app.page_requests import INTERNAL_ERROR, PageRequest, safe_handler
from convscope.app.photo_decoder import MAX_SLOW, PhotoDecoder
from convscope.app.photos import MAX_FILE_BYTES, MAX_PHOTOS, Photographs
from convscope.app.shared_state import MAX_WAITING, SharedState
from convscope.app.tabs.network import sweep_of
from convscope.errors import ImageError
from convscope.images.read import sample
from tests.app.conftest import decoder, tiny
from tests.app.test_jobs import jobs
from tests.images.test_decode import saved, with_scans


class Form:
    """A form as Gradio hands it on."""

    def __init__(self, *files, **data):
        self.files, self.data = [(f"{i}.png", f) for i, f in enumerate(files)], data


def png(width=40, height=30, colour=(200, 30, 30), kind="png"):
    buffer = io.BytesIO()
    Image.new("RGB", (width, height), colour).save(buffer, kind)
    return buffer.getvalue()


def test_a_photograph_gives_the_librarys_answer(state, functions):
    data = sample("china").read_bytes()
    found = functions["photograph"](Form(data))
    said = convscope.predict(state.net, state.net.read(data))
    assert said.column("class") == [c["number"] for c in found["classes"]]
    shares = [c["share"] for c in found["classes"]]
    assert said.column("probability") == pytest.approx(shares, rel=1e-5)
    assert found["view"].startswith("data:image/jpeg;base64,")


def test_app_and_library_cut_a_photograph_alike(state, token):
    expected = state.net.read("sample:china")
    assert torch.equal(expected, state.photos[token].pixels)


BAD = {
    "text": (b"hello, I am text", "not a picture of a kind"),
    "empty": (b"", "is empty"),
    "cut off": (sample("china").read_bytes()[:5000], "damaged or cut off"),
    "half a header": (png()[:20], "cannot be read"),
    "far too long": (png(4000, 4), "times as long as wide"),
    "large file": (b"\x89PNG" + b"0" * MAX_FILE_BYTES, "larger than 24 MB"),
}


@pytest.mark.parametrize("name", BAD)
def test_bad_files_are_one_sentence(functions, name):
    data, words = BAD[name]
    found = functions["photograph"](Form(data))
    assert ["error"] == list(found)
    assert words in found["error"]
    assert "\n" not in found["error"]
    assert "Traceback" not in found["error"]


def test_a_bomb_is_refused_by_its_header(functions):
    header = bytearray(png(8, 8))
    header[16:24] = (20_000).to_bytes(4) * 2
    import zlib

    header[29:33] = zlib.crc32(header[12:29]).to_bytes(4)
    found = functions["photograph"](Form(bytes(header)))
    assert {
        "error": "This upload has too many pixels to be decoded; make it smaller first."
    } == found


@pytest.mark.parametrize("count", [0, 2, 100])
def test_one_photograph_at_a_time(functions, count):
    found = functions["photograph"](Form(*[png()] * count))
    assert {"error": "Upload one photograph at a time."} == found


def test_photographs_are_kept_within_bounds():
    photos = Photographs(tiny(), decoder(), max_photos=3)
    tokens = [photos.add(png(colour=(i, 0, 0)), "a").token for i in range(5)]
    with pytest.raises(ImageError, match="no longer stored"):
        photos[tokens[0]]
    assert tokens[-1] == photos[tokens[-1]].token
    assert MAX_PHOTOS < 100


@pytest.mark.parametrize(
    "sent", [None, 3, "x", [], {}, {"token": {"a": 1}}, {"token": "../../etc"}]
)
def test_what_makes_no_sense_is_one_sentence(functions, sent):
    for name, function in functions.items():
        if name not in ("strip", "moving", "stop", "sample", "weights", "frame"):
            assert "error" in function(sent), name


def test_an_error_of_ours_shows_nothing_of_the_server(state, caplog):
    def broken(_state, _ask):
        return 1 / len("") if _ask else "secret"

    assert {"error": INTERNAL_ERROR} == safe_handler(state, broken)({})
    assert "ZeroDivisionError" in caplog.text


def test_one_pass_serves_every_layer(state, functions, token, monkeypatch):
    passes = []
    inner = type(state.net).run
    monkeypatch.setattr(type(state.net), "run", lambda *a, **k: passes.append(1) or inner(*a, **k))
    for stage in state.stages():
        assert "uri" in functions["sheet"]({"token": token, "layer": f"stage:{stage.stage}"})
    assert [] == passes  # the one pass was that of the prediction


def test_a_sheet_holds_every_channel(state, functions, token):
    found = functions["sheet"]({"token": token, "layer": "stage:1"})
    maps = convscope.maps(state.net, "sample:china", "stage:1").values[0]
    assert len(maps) == len(found["most"]) == len(found["mean"])
    assert maps.flatten(1).amax(1).tolist() == pytest.approx(found["most"], abs=1e-3)


def test_a_tile_is_where_the_sheet_says():
    maps = torch.zeros(7, 4, 6)
    maps[5, 2, 3] = 1.0
    found = encode_sprite(maps)
    import base64

    data = base64.b64decode(found["uri"].partition(",")[2])
    pixels = np.asarray(Image.open(io.BytesIO(data)))
    y, x = 5 // found["columns"] * 4 + 2, 5 % found["columns"] * 6 + 3
    assert 255 == pixels[y, x]
    assert 255 == pixels.sum()


def test_evidence_and_its_check(functions, token):
    found = functions["evidence"]({"token": token, "target": "class:1"})
    assert 'convscope.cam(net, photo, "class:1", method="gradcam")' == found["code"]
    assert functions["check"]({"token": token, "target": "class:1"})["sentence"].startswith(
        "Checked"
    )


def test_two_maps_share_one_scale(state, functions, token):
    """A class that is hardly predicted does not glow like the one that is."""
    tops = [float(convscope.cam(state.net, "sample:china", k).evidence().max()) for k in range(5)]
    weaker, stronger = sorted((k for k in range(5) if tops[k] > 0), key=tops.__getitem__)[-2:]
    about = [{"token": token, "target": f"class:{k}"} for k in (weaker, stronger)]
    alone = [functions["evidence"](one)["heat"] for one in about]
    pairs = zip(about, reversed(about), strict=True)
    together = [functions["evidence"]({**a, "beside": b["target"]})["heat"] for a, b in pairs]
    assert tops[weaker] < 0.95 * tops[stronger]
    assert [True, False] == [a != b for a, b in zip(alone, together, strict=True)]


def test_a_map_that_hardly_shows_says_so():
    assert weakness_in_words(1.1, 5) == weakness_in_words(0, 5) == weakness_in_words(1, 0) == ""
    assert "is 2% of its maximum" in weakness_in_words(0.1, 5)


@pytest.mark.parametrize("method", ["gradcam", "layercam", "gradient", "guided"])
def test_methods_of_both_families(functions, token, method):
    assert "heat" in functions["evidence"]({"token": token, "target": "class:0", "method": method})


def test_a_channel(state, functions, token):
    found = functions["unit"]({"token": token, "layer": "stage:1", "channel": 3})
    plane = convscope.maps(state.net, "sample:china", "stage:1").values[0, 3]
    assert float(plane.max()) == pytest.approx(found["most"])
    assert plane.numel() == sum(found["histogram"])
    top, left, bottom, right = found["box"]
    assert 0 <= top < bottom <= 32
    assert 0 <= left < right <= 32
    assert 3 not in found["neighbours"]
    drives = functions["projection"]({"token": token, "layer": "stage:1", "channel": 3})
    assert drives["words"]


def test_a_channel_that_is_none_is_said(functions, token):
    found = functions["unit"]({"token": token, "layer": "stage:1", "channel": 99})
    assert {"error": "stage:1 has no channel 99: it has 8, numbered 0 to 7."} == found


def test_any_layer_has_channels(functions, token):
    assert "most" in functions["unit"]({"token": token, "layer": "mid", "channel": 0})


@pytest.mark.parametrize("name", ["unit", "sheet"])
def test_the_scores_are_no_layer(functions, token, name):
    found = functions[name]({"token": token, "layer": "output", "channel": 1})
    assert found["error"].startswith("'output' stands for the network's scores")


def test_filters_with_their_scores(functions):
    found = functions["weights"]({"layer": "conv:2", "inputs": "3"})
    assert 8 == len(found["noise"]) == len(found["norm"])
    assert "error" in functions["weights"]({"layer": "stage:2"})


def test_the_network_as_a_strip(functions):
    found = functions["strip"]({})
    assert found["boxes"]
    assert len(found["columns"]) == len(found["rows"][0])


def test_a_frame_of_the_camera(functions):
    found = functions["frame"](
        Form(png(64, 48, kind="jpeg"), ask='{"layer": "stage:1", "channel": 2}')
    )
    assert 5 == len(found["classes"])
    assert 8 == len(found["channels"])
    assert found["tiles"]["uri"].startswith("data:image/png")


def test_many_at_once_each_get_their_own_answer(state):
    photos = [png(40, 30, (9 * i, 255 - 9 * i, 5 * i)) for i in range(20)]
    alone = [SharedState(state.net, decoder=decoder()).photos.add(p, "a") for p in photos]
    from convscope.app.tabs.look import describe, photograph

    expected = [
        describe(SharedState(state.net, decoder=decoder()), photo)["classes"] for photo in alone
    ]
    found = [None] * 20

    def ask(place):
        found[place] = photograph(state, photos[place], "a")["classes"]

    threads = [threading.Thread(target=ask, args=(i,)) for i in range(20)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert expected == found


def test_too_many_are_told_so(state, functions, token):
    state._waiting = MAX_WAITING
    found = functions["evidence"]({"token": token, "target": "class:3"})
    expected = "Too many requests are waiting for this network; please try again in a moment."
    assert {"error": expected} == found


@pytest.mark.parametrize("value", [True, "3", None, 1.5, 1e9, float("nan"), [1]])
def test_numbers_are_read_with_care(state, value):
    request = PageRequest(state, {"n": value})
    if value is None:
        assert "error" in safe_handler(state, lambda _d, a: {"n": a.integer("n", 0, 0, 9)})(
            {"n": "x"}
        )
    else:
        with pytest.raises(convscope.ConvscopeError, match="n must be an integer from 0 to 9"):
            request.integer("n", 0, 0, 9)


@pytest.mark.parametrize(
    ("channel", "words"),
    [(2, "Channel 2 of stage 1."), (99, "stage:1 has no channel 99: it has 8, numbered 0 to 7.")],
)
def test_a_followed_channel_is_named_or_refused(functions, channel, words):
    sent = Form(png(64, 48, kind="jpeg"), ask=json.dumps({"layer": "stage:1", "channel": channel}))
    found = functions["frame"](sent)
    assert words == found["about"]
    assert bool(found["followed"]) == (channel < 8)


def test_the_network_comes_back_as_it_was(state, functions, token):
    from tests.conftest import assert_untouched, state_of

    before = state_of(state.net.module)
    functions["evidence"]({"token": token, "target": "class:2"})
    functions["projection"]({"token": token, "layer": "stage:1", "channel": 1})
    jobs(state, kind="synthesize", target="class:2", steps=2, size=32)
    assert_untouched(before, state.net.module)


def test_a_convolution_at_work(functions):
    found = functions["moving"]({"layer": "conv:1"})
    assert "input 4x4, kernel 3x3, padding 1: output 4x4" == found["words"]
    assert (7, 7) == sweep_of(nn.Conv2d(3, 4, 7, 2, 3)).input
    assert (4, 4) == sweep_of(nn.Conv2d(3, 4, 5, padding="same", dilation=2)).output
    assert found["html"].startswith('<img alt="')
    assert "is not a convolution" in functions["moving"]({"layer": "stage:2"})["error"]


def single_score_state(bias):
    torch.manual_seed(0)
    module = nn.Sequential(
        nn.Conv2d(3, 4, 3), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 1)
    )
    nn.init.constant_(module[4].bias, bias)
    net = convscope.Network(module.eval(), labels=["cat"], input_size=(32, 32))
    return SharedState(net, decoder=decoder())


@pytest.mark.parametrize("bias", [-0.5, 0.5])
def test_every_tab_gives_a_single_score_one_probability(bias):
    from convscope.app.build import page_functions
    from convscope.app.tabs.occlude import occlude_job

    state = single_score_state(bias)
    photo = page_functions(state)["sample"]({"name": "china"})
    (expected,) = (one["share"] for one in photo["classes"])
    assert pytest.approx(expected) == convscope.predict(state.net, sample("china")).rows[0][3]
    *_, found = occlude_job(state, PageRequest(state, {"token": photo["token"]}), lambda: False)
    (covered,) = found["classes"]
    assert pytest.approx(expected) == covered["share"]
    assert max(covered["shares"]) < 1


@pytest.mark.parametrize(("bias", "name"), [(-0.5, "not cat"), (0.5, "cat")])
def test_the_check_of_a_single_score_watches_what_it_answers(bias, name):
    from convscope.app.build import page_functions

    functions = page_functions(single_score_state(bias))
    token = functions["sample"]({"name": "china"})["token"]
    assert name in functions["check"]({"token": token})["sentence"]


def test_a_class_by_name_is_checked_by_its_own_probability(functions, token):
    by_name, by_number = (
        functions["check"]({"token": token, "target": target})
        for target in ("class:gas pump", "class:2")
    )
    assert by_number == by_name
    assert "gas pump" in by_name["sentence"]


def test_slow_photographs_do_not_hold_up_the_others():
    """They leave the turn of the quick ones soon; of those that wait for the slow turn four are let in."""
    own = PhotoDecoder(quick_seconds=1.0, seconds=20.0)
    jpeg = saved(Image.new("RGB", (6000, 6000), "tan"), "JPEG", progressive=True)
    slow = [with_scans(jpeg, 150 + k) for k in range(MAX_SLOW + 2)]
    kept, ended = Photographs(tiny(), own), []

    def bring(data):
        with pytest.raises(ImageError) as caught:
            kept.add(data, "slow")
        ended.append(str(caught.value))

    threads = [threading.Thread(target=bring, args=(data,)) for data in slow]
    for thread in threads:
        thread.start()
    while len(ended) < 2:  # until the slow turn is full
        time.sleep(0.01)
    assert kept.sample("china").token
    own.close()
    for thread in threads:
        thread.join()
    assert 2 == sum("Too many photographs are being decoded" in words for words in ended)
