"""Rotten bytes are noticed and made again; one run at a time works in a folder."""

import json
import os
import random
import shutil
import subprocess
import sys
from dataclasses import replace

import pytest
import torch

from convscope.dataset import folder_lock
from convscope.dataset import survey as module
from convscope.dataset.folder_lock import only_run_in
from convscope.dataset.manifest import Manifest
from convscope.dataset.part import DamagedError, Part
from convscope.dataset.seal import seal
from convscope.dataset.survey import merge_surveys, open_survey, survey, verify_survey
from convscope.errors import ArgumentError, LoadError, StoppedError
from tests.dataset.test_survey import contents

FILES = ("manifest.json", "survey.safetensors", "summary.json")


@pytest.fixture
def whole(net, folder, tmp_path):
    return survey(net, folder, layers="conv:1", out=tmp_path / "out").folder


def flip(path, *bits):
    content = bytearray(path.read_bytes())
    for bit in bits:
        content[bit // 8] ^= 1 << bit % 8
    path.write_bytes(content)


def files_of(folder):
    return {
        p.name: p.read_bytes() for p in folder.rglob("*") if p.suffix in (".json", ".safetensors")
    }


@pytest.mark.parametrize("name", ["parts/00001.safetensors", *FILES])
def test_every_flipped_bit_is_noticed(whole, name):
    path, chance = whole / name, random.Random(0)  # noqa: S311
    bits, before = path.stat().st_size * 8, path.read_bytes()
    first = [[k] for k in range(0, 8 * 400, 13)]  # the head, where the digest is
    for some in (
        *first,
        *([chance.randrange(bits)] for _ in range(300)),
        range(0, bits, bits // 400),
    ):
        flip(path, *some)
        assert [name] == verify_survey(whole)
        path.write_bytes(before)
    assert [] == verify_survey(whole)


def test_what_is_cut_off_empty_or_renamed_is_noticed(whole):
    path = whole / "parts" / "00001.safetensors"
    before = path.read_bytes()
    for content in (
        b"",
        before[:-1],
        before + b"\0",
        (whole / "parts" / "00002.safetensors").read_bytes(),
    ):
        path.write_bytes(content)
        assert ["parts/00001.safetensors"] == verify_survey(whole)
    path.unlink()
    assert ["parts/00001.safetensors"] == verify_survey(whole)


def test_a_damaged_part_is_made_again_and_the_rest_kept(net, folder, whole):
    before = files_of(whole)
    flip(whole / "parts" / "00001.safetensors", 4000)
    with pytest.raises(
        LoadError, match="00001.safetensors is missing or damaged; run the same survey"
    ):
        _ = open_survey(whole).images
    kept = {p: p.stat().st_ino for p in (whole / "parts").iterdir() if "00001" not in p.name}
    told = []
    survey(net, folder, layers="conv:1", out=whole, progress=lambda *what: told.append(what[:2]))
    assert [(25, 29), (29, 29)] == told
    assert kept == {p: p.stat().st_ino for p in kept}
    assert before == files_of(whole)


@pytest.mark.parametrize("name", FILES)
@pytest.mark.parametrize("how", ["flipped", "gone", "empty"])
def test_a_damaged_table_or_manifest_is_made_again_from_whole_parts(net, folder, whole, name, how):
    before = files_of(whole)
    flip(whole / name, 4000) if how == "flipped" else (whole / name).unlink()
    if how == "empty":
        (whole / name).touch()
    told = []
    survey(net, folder, layers="conv:1", out=whole, progress=lambda *what: told.append(what))
    assert ([], before) == (told, files_of(whole))


def test_a_table_that_is_damaged_is_read_from_the_parts(whole):
    expected = open_survey(whole).summary()
    flip(whole / "survey.safetensors", 4000)
    damaged = (whole / "survey.safetensors").read_bytes()
    assert expected == open_survey(whole).summary()
    assert damaged == (whole / "survey.safetensors").read_bytes()


def test_parts_of_another_survey_are_not_taken_for_this_one(net, folder, whole):
    flip(whole / "manifest.json", 4000)
    before = files_of(whole)
    with pytest.raises(
        ArgumentError, match="holds another survey: it keeps the 9 strongest, not 5."
    ):
        survey(net, folder, layers="conv:1", out=whole, top=5)
    assert before == files_of(whole)


def test_a_manifest_that_nothing_proves_is_left_alone(net, folder, tmp_path):
    out = tmp_path / "site"
    out.mkdir()
    (out / "manifest.json").write_text('{"name": "a web page of mine"}')
    with pytest.raises(LoadError, match="is damaged, or not a survey's"):
        survey(net, folder, layers="conv:1", out=out)
    assert ["manifest.json"] == [p.name for p in out.iterdir()]


@pytest.mark.parametrize(
    ("number", "words"),
    [
        (2, "an earlier version of convscope wrote it (format 2, not 5); survey again into"),
        (9, "a later version of convscope wrote it (format 9, not 5); update convscope."),
    ],
)
def test_other_formats_are_one_sentence(net, folder, whole, number, words):
    found = json.loads((whole / "manifest.json").read_bytes())
    found["format"] = number
    if number == 2:
        del found["digest"]
        content = json.dumps(found).encode()
    else:
        found["digest"] = "sha256:" + "0" * 64
        content = seal(json.dumps(found).encode())
    (whole / "manifest.json").write_bytes(content)
    for ask in (
        lambda: open_survey(whole),
        lambda: verify_survey(whole),
        lambda: survey(net, folder, layers="conv:1", out=whole),
    ):
        with pytest.raises(LoadError) as caught:
            ask()
        assert words in str(caught.value)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"per_part": 16}, "its parts have 16 photographs each, not 8"),
        ({"versions": {"torch": "1.13.0"}}, "it was made with torch 1, not 2"),
        ({"channels": [7]}, "its layers have 7 channels, not 8"),
    ],
)
def test_what_would_mix_parts_is_refused(net, folder, whole, change, words):
    manifest = Manifest.read((whole / "manifest.json").read_bytes())
    if "versions" in change:
        assert manifest.versions["torch"].startswith("2.")
    (whole / "manifest.json").write_bytes(replace(manifest, **change).content())
    with pytest.raises(ArgumentError) as caught:
        survey(net, folder, layers="conv:1", out=whole)
    assert words in str(caught.value)


def test_an_intact_file_of_other_names_and_shapes_is_refused(whole):
    found = open_survey(whole)
    part = found.store.part(found.manifest, 0)
    tally = part.layers["conv:1"]
    wrong = (
        replace(part, layers={"conv:2": tally}),
        replace(part, layers={"conv:1": replace(tally, total=tally.total[:3])}),
        replace(part, layers={"conv:1": replace(tally, ids=tally.ids + 1000)}),
        replace(part, layers={"conv:1": replace(tally, histogram=torch.zeros(2))}),
        replace(part, images={"ids": torch.arange(3)}),
        replace(part, skipped={99: "why"}),
        replace(part, layers={}),
    )
    assert Part.read(part.content(found.manifest), found.manifest).seen == 8
    for one in wrong:
        with pytest.raises(DamagedError):
            Part.read(one.content(found.manifest), found.manifest)


def test_stopped_in_a_part_all_that_was_looked_at_is_kept(net, folder, tmp_path):
    survey(net, folder, layers="conv:1", out=tmp_path / "whole")
    out, seen = tmp_path / "out", []
    for k in range(1, 8):
        with pytest.raises(StoppedError, match=f"Stopped after {4 * k} of 29 photographs"):
            survey(
                net, folder, layers="conv:1", out=out, should_stop=lambda: True,
                progress=lambda done, *_: seen.append(done),
            )  # fmt: skip
        assert k // 2 == len(list(out.glob("parts/*")))
    found = survey(net, folder, layers="conv:1", out=out, should_stop=lambda: True)
    assert ([4 * k for k in range(1, 8)], 29) == (seen, found.count)
    assert contents(tmp_path / "whole") == contents(out)


def test_a_damaged_unfinished_part_is_dropped(net, folder, tmp_path):
    survey(net, folder, layers="conv:1", out=tmp_path / "whole")
    with pytest.raises(StoppedError, match="Stopped after 4 of 29"):
        survey(net, folder, layers="conv:1", out=tmp_path / "out", should_stop=lambda: True)
    flip(tmp_path / "out" / "unfinished.safetensors", 4000)
    assert ["unfinished.safetensors"] == verify_survey(tmp_path / "out")
    survey(net, folder, layers="conv:1", out=tmp_path / "out")
    assert contents(tmp_path / "whole") == contents(tmp_path / "out")


def test_a_killed_start_is_no_foreign_folder(net, folder, whole, tmp_path):
    """Drafts, an empty folder for parts and a lock file are known as ours; for a merge too."""
    parts = [
        survey(net, folder, layers="conv:1", out=tmp_path / f"p{k}", shard=(k, 2)).folder
        for k in (1, 2)
    ]
    for name, work in (
        ("a", lambda out: survey(net, folder, layers="conv:1", out=out)),
        ("b", lambda out: merge_surveys(parts, out)),
    ):
        out = tmp_path / name
        (out / "parts").mkdir(parents=True)
        for left in (".lock", ".lock-holder", ".convscope-host.x-1-0123456789abcdef.draft"):
            (out / left).write_text("1")
        (out / "parts" / ".convscope-host-1-0123456789abcdef.draft").touch()
        work(out)
        assert contents(whole) == contents(out)
        assert not list(out.rglob("*.draft"))


def test_a_second_run_is_refused_and_names_the_first(net, folder, tmp_path):
    out = tmp_path / "out"

    def second(done, *_):
        draft = out / ".convscope-elsewhere-1-0123456789abcdef.draft"
        draft.touch()
        with pytest.raises(
            ArgumentError, match=f"is in use by another run .process {os.getpid()} on "
        ):
            survey(net, folder, layers="conv:1", out=out)
        if done < 29:  # to read needs no lock
            with pytest.raises(ArgumentError, match="is not finished"):
                open_survey(out)
        assert draft.exists()
        draft.unlink()

    survey(net, folder, layers="conv:1", out=out, progress=second)
    survey(net, folder, layers="conv:1", out=out)


@pytest.mark.skipif(os.name != "posix", reason="signals are sent")
def test_the_lock_ends_with_its_process(tmp_path):
    script = (
        "import os, sys, pathlib; from convscope.dataset.folder_lock import only_run_in\n"
        "with only_run_in(pathlib.Path(sys.argv[1])): print(1, flush=True); sys.stdin.read()"
    )
    command = [sys.executable, "-c", script, str(tmp_path)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        process.stdout.readline()
        with (
            pytest.raises(ArgumentError, match=f"process {process.pid} on "),
            only_run_in(tmp_path),
        ):
            pass
        process.kill()
        process.wait()
    with only_run_in(tmp_path) as held:
        assert held


def test_without_locks_the_run_goes_on_with_a_warning(net, folder, tmp_path, monkeypatch):
    class Lock(folder_lock.FileLock):
        def acquire(self, *_, **__):
            raise OSError(folder_lock.errno.ENOLCK, "No locks available")

    monkeypatch.setattr(folder_lock, "FileLock", Lock)
    draft = tmp_path / "out" / ".convscope-host-1-0123456789abcdef.draft"
    draft.parent.mkdir()
    draft.touch()
    with pytest.warns(UserWarning, match="has no locks; take care that no second run works in it."):
        survey(net, folder, layers="conv:1", out=tmp_path / "out")
    assert draft.exists()  # it may be another run's


def test_a_survey_is_read_from_a_folder_that_cannot_be_written(whole, monkeypatch):
    expected = files_of(whole)
    for name in ("summary.json", "survey.safetensors", ".lock"):
        (whole / name).unlink()

    def fail(*_, **__):
        raise AssertionError

    monkeypatch.setattr("convscope.dataset.store.write_atomically", fail)
    monkeypatch.setattr("convscope.dataset.store.only_run_in", fail)
    assert 29 == open_survey(whole).count
    assert len(expected) - 2 == len(files_of(whole))


def test_memory_and_files_of_a_merge_are_bounded(net, folder, whole, tmp_path, monkeypatch):
    """One part at a time is read, and none twice."""
    held = []
    real = Part.read.__func__

    def read(cls, content, manifest):
        held.append(1)
        return real(cls, content, manifest)

    shutil.rmtree(tmp_path / "merged", ignore_errors=True)
    monkeypatch.setattr(Part, "read", classmethod(read))
    merge_surveys([whole], tmp_path / "merged")
    assert 2 * 4 == len(held)  # four parts once copied, once put together
    assert contents(whole) == contents(tmp_path / "merged")


@pytest.mark.parametrize(
    ("name", "why"),
    [
        ("n" * 300, "File name too long"),
        ("a\0b", "embedded null"),
        ("file", "is a file; a survey needs a folder."),
        ("file/below", "Not a directory"),
    ],
)
def test_a_folder_that_cannot_be_is_one_sentence(net, folder, tmp_path, name, why):
    (tmp_path / "file").touch()
    with pytest.raises((ArgumentError, LoadError), match=why) as caught:
        survey(net, folder, layers="conv:1", out=tmp_path / name)
    assert str(caught.value).isprintable()
    with pytest.raises(LoadError):
        open_survey(tmp_path / name)


def test_filing_an_unfinished_part_costs_a_small_share(monkeypatch):
    now = [0.0]
    monkeypatch.setattr(module.time, "monotonic", lambda: now[0])
    pace = module._SaveThrottle()
    assert not pace.is_due()
    now[0] = module.SAVE_INTERVAL
    assert pace.is_due()
    with pace.paid():
        now[0] += 1
    now[0] += 99
    assert not pace.is_due()
    now[0] += 1
    assert pace.is_due()


@pytest.mark.parametrize("name", ["survey.safetensors", "summary.json"])
def test_a_table_of_some_parts_is_not_believed_of_all(net, folder, tmp_path, name):
    whole, some, others = (
        survey(net, folder, layers="conv:1", out=tmp_path / f"{k}-{n}", shard=(k, n)).folder
        for k, n in ((1, 1), (1, 2), (2, 2))
    )
    before = files_of(whole)
    for foreign, own in ((some, whole), (others, some)):
        kept = files_of(own)
        shutil.copy(foreign / name, own / name)
        assert [name] == verify_survey(own)
        survey(net, folder, layers="conv:1", out=own, shard=(1, 1) if own == whole else (1, 2))
        assert kept == files_of(own)
    assert before == files_of(whole)
