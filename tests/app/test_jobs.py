"""What takes long: pictures that grow, windows that cover, and what is kept of them."""

import base64
import io
import itertools
import json
import threading
import time

import pytest
import torch
from PIL import Image

import convscope

pytest.importorskip("gradio", reason="the extra 'app' is not installed")

from convscope.app import endpoints
from convscope.app.build import JOBS
from convscope.app.jobs import run
from convscope.app.shared_state import MAX_DOWNLOADS, MAX_JOBS
from convscope.app.tabs import look
from convscope.app.timelapse import TimelapseRecorder
from convscope.results import Pictures, recipe_for
from tests.app.conftest import tiny


def jobs(state, **sent):
    """All that a job tells after it has a place."""
    place, *told = run(state, JOBS, {"job": "j", **sent})
    assert {"job": "j", "kind": sent["kind"]} == place
    return told


def test_a_picture_grows_and_is_kept(state, functions):
    told = jobs(state, kind="synthesize", target="class:1", steps=6, size=32)
    assert told[-1]["done"]
    again = jobs(state, kind="synthesize", target="class:1", steps=6, size=32)
    assert 1 == len(again)  # it was remembered
    assert again[0]["picture"] == told[-1]["picture"]
    for suffix, start in (
        (".png", "data:image/png"),
        (".gif", "data:image/gif"),
        (".json", "data:application/json"),
    ):
        kept = functions["download"]({"key": told[-1]["key"], "suffix": suffix})
        assert kept["uri"].startswith(start)


def test_stop_works_within_a_step_and_keeps_the_best(state, functions):
    seen = []
    steps = run(
        state,
        JOBS,
        {"job": "j", "kind": "synthesize", "target": "class:1", "steps": 4000, "size": 32},
    )
    next(steps)  # it has a place
    for answer in steps:
        seen.append(answer)
        functions["stop"]({"job": "j"})
    assert seen[-1]["done"]
    assert seen[-1]["picture"]
    assert seen[0]["step"] == 1
    assert len(seen) < 5
    assert state._lock.acquire(blocking=False)
    state._lock.release()
    _told_truly(state, functions, seen[-1])


def _told_truly(state, functions, answer):
    """Recipe and code of a stopped picture say so, and the code makes the same picture."""
    kept = functions["download"]({"key": answer["key"], "suffix": ".json"})["uri"]
    recipe = json.loads(base64.b64decode(kept.partition(",")[2]))
    reached = recipe["parameters"]["stopped_after"]
    assert 1 <= reached < 10
    *lines, last = answer["code"].split("\n")
    known = {"convscope": convscope, "net": state.net}
    exec("\n".join(lines), known)  # noqa: S102 - the page offers it to be run
    made = eval(last, known)  # noqa: S307
    assert torch.equal(state.downloads[answer["key"]].picture.values, made.values)


def frames_of(functions, key):
    kept = functions["download"]({"key": key, "suffix": ".gif"})["uri"]
    with Image.open(io.BytesIO(base64.b64decode(kept.partition(",")[2]))) as film:
        return film.n_frames


def test_a_film_of_a_stopped_picture_has_many_frames(state, functions):
    steps = run(
        state,
        JOBS,
        {"job": "j", "kind": "synthesize", "target": "class:1", "size": 32, "steps": 4000},
    )
    for answer in steps:
        if answer.get("step", 0) >= 40:
            functions["stop"]({"job": "j"})
    assert 12 <= frames_of(functions, answer["key"]) <= 25


@pytest.mark.parametrize("steps", [1, 2, 24, 25, 26, 100, 1000])
def test_frames_are_spread_evenly(steps):
    recorder, recipe = TimelapseRecorder(), recipe_for(tiny(), "a")
    for step in range(steps):
        recorder.add(Pictures(torch.full((1, 3, 8, 8), step / 1000), recipe))
    shown = recorder.timelapse(Pictures(torch.ones(1, 3, 8, 8), recipe))
    found = [round(1000 * float(v.mean())) for v in shown.values][:-1]
    assert min(steps, 12) <= len(found) <= 24
    assert 1 == len({b - a for a, b in itertools.pairwise(found)} or {1})
    assert steps - 1 - found[-1] < max(1, found[1] - found[0] if len(found) > 1 else 1)


@pytest.mark.parametrize("guided", [False, True])
def test_the_code_of_a_dream_makes_the_same_dream(state, functions, token, guided):
    other = functions["sample"]({"name": "flower"})["token"] if guided else ""
    told = jobs(state, kind="dream", token=token, layer="stage:2", guide=other, steps=2, octaves=2)
    *lines, last = told[-1]["code"].split("\n")
    known = {
        "convscope": convscope,
        "net": state.net,
        "photo": "sample:china",
        "guide": "sample:flower",
    }
    exec("\n".join(lines), known)  # noqa: S102 - the page offers it to be run
    dreamt = eval(last, known)  # noqa: S307
    torch.testing.assert_close(state.downloads[told[-1]["key"]].picture.values, dreamt.values)


def test_a_picture_and_its_film_are_forgotten_together(state, functions):
    told = [
        jobs(state, kind="synthesize", target="class:1", steps=2, size=32, seed=k)[-1]
        for k in range(MAX_DOWNLOADS)
    ]
    for suffix in (".png", ".gif"):
        assert "uri" in functions["download"]({"key": told[0]["key"], "suffix": suffix})


def test_a_job_that_nobody_watches_any_more_ends(state, token):
    steps = run(
        state, JOBS, {"job": "j", "kind": "dream", "token": token, "steps": 100, "octaves": 8}
    )
    next(steps)
    next(steps)
    steps.close()  # as Gradio does when the page is gone
    assert state._lock.acquire(timeout=5)


def test_occlusion_is_the_librarys(state, token):
    told = jobs(state, kind="occlude", token=token, window=8, stride=8)[-1]
    expected = convscope.occlusion_by_class(state.net, "sample:china", window=8, stride=8).values
    assert list(expected.shape[-2:]) == told["grid"]
    assert expected[0].flatten().tolist() == pytest.approx(told["classes"][0]["shares"], abs=1e-3)


def test_dream_and_inversion_are_seen_to_grow(state, functions, token):
    dream = jobs(state, kind="dream", token=token, steps=30, octaves=2)
    pictures = [told["picture"] for told in dream if "picture" in told]
    assert len(set(pictures)) > 1
    kept = functions["download"]({"key": dream[-1]["key"], "suffix": ".gif"})
    assert kept["uri"].startswith("data:image/gif;base64,")
    strips = [
        told["parts"]
        for told in jobs(state, kind="invert", token=token, steps=24)
        if "parts" in told
    ]
    assert len(strips[0]) < len(strips[-1])
    assert strips[0] == strips[-1][: len(strips[0])]


def test_dream_and_inversion(state, token):
    assert jobs(state, kind="dream", token=token, steps=1, octaves=1)[-1]["picture"]
    assert 2 <= len(jobs(state, kind="invert", token=token, steps=2)[-1]["parts"])


@pytest.mark.parametrize(
    "sent",
    [
        {"kind": "synthesize", "target": "class:99"},
        {"kind": "synthesize", "target": "class:1", "steps": 10**9},
        {"kind": "synthesize", "target": "class:1", "preset": "none"},
        {"kind": "occlude"},
        {"kind": "occlude", "fill": "pink"},
    ],
)
def test_jobs_that_cannot_be_are_one_sentence(state, sent):
    (last,) = jobs(state, **sent)
    assert last["done"]
    assert last["error"].endswith(".")


def started(state, name):
    """A job that has told its first word, as a page left it."""
    steps = run(state, JOBS, {"job": name, "kind": "synthesize", "target": "class:1", "size": 32})
    return next(steps), steps


def test_without_a_place_it_says_so_and_places_come_back(state):
    running = [started(state, str(k))[1] for k in range(MAX_JOBS)]
    expected = "Too many pictures are being made at the moment; please try again in a minute."
    assert expected == started(state, "late")[0]["error"]
    for steps in running:
        steps.close()
    assert "error" not in started(state, "later")[0]


def test_only_a_job_that_runs_takes_a_place(state, functions):
    assert "enter" not in functions
    for _ in range(2 * MAX_JOBS):
        jobs(state, kind="occlude")
    assert "error" not in started(state, "j")[0]


def test_a_method_that_takes_long_is_told_stopped_and_computed_once(
    state, functions, token, monkeypatch
):
    computed = []
    inner = look.attribution_map
    monkeypatch.setattr(
        look, "attribution_map", lambda *a, **k: computed.append(a[2]) or inner(*a, **k)
    )
    asked = {"kind": "explain", "token": token, "method": "scorecam"}
    told = jobs(state, **asked, target="class:1", rival="class:2")
    assert ["class:1", "class:2"] == computed
    assert 2 == len(told[-1]["maps"])
    assert told[-1]["checked"]["sentence"].startswith("Checked")
    about = {"token": token, "method": "scorecam", "target": "class:1", "beside": "class:2"}
    one = functions["evidence"](about)
    assert told[-1]["maps"][0] == one
    assert 2 == len(computed)
    functions["stop"]({"job": "j"})
    (last,) = jobs(state, **asked, target="class:3")[-1:]
    assert "Stopped." == last["error"]


def test_programs_take_turns_with_a_method_that_takes_long(state, monkeypatch):
    turns = []
    monkeypatch.setattr(state, "yield_lock", lambda: turns.append(1))
    endpoints.cam(state, "sample:china", "class:1", "scorecam")
    assert turns


@pytest.mark.parametrize("sent", [None, 5, {"kind": "nothing"}, {"kind": ["occlude"]}])
def test_a_job_that_is_none_is_one_sentence(state, sent, caplog):
    (last,) = run(state, JOBS, sent)
    assert last["error"].startswith("There is no job ")
    assert "" == caplog.text


def test_a_long_job_lets_a_visitor_in_between_two_steps(state):
    inside = threading.Event()

    def visit():
        with state.network():
            inside.set()

    visitor = threading.Thread(target=visit)
    with state.network():
        visitor.start()
        while not state._waiting:
            time.sleep(0.001)
        for _ in range(2000):
            state.yield_lock()
            if inside.is_set():
                break
        assert inside.is_set()
    visitor.join()
