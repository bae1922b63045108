"""Names of files are any bytes: photographs are found by them, and people see them escaped."""

import json
import os
import sys

import pytest

from convscope.dataset.embedding_map import embedding_map
from convscope.dataset.nearest_images import nearest_images
from convscope.dataset.source import digest, photographs
from convscope.dataset.survey import merge_surveys, open_survey, survey, verify_survey
from convscope.dataset.top_patches import top_activations
from convscope.errors import ImageError, printable
from convscope.report.channel_pages import channel_page, channel_sheet
from convscope.report.embedding_map_page import embedding_map_html
from tests.dataset.conftest import draw

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="other systems refuse such names")
NAMES = [
    b"caf\xe9.png",
    b"line\nbreak.png",
    b"tab\tand\x1b[31mred.png",
    "turned \u202egpj.png".encode(),
    "plain é ü.png".encode(),
    b"[bold]markup.png",
]


@pytest.fixture
def odd(tmp_path):
    """A photograph under each name, in folders whose names are no better."""
    root = tmp_path / "photos"
    for k, name in enumerate(NAMES):
        label = os.fsdecode(b"\xff\nant" if k % 2 else b"b\te\x1be")
        draw(root / label / f"{k}.png", k)
        (root / label / f"{k}.png").rename(root / label / os.fsdecode(name))
    (root / os.fsdecode(b"broken\n\xfe.png")).write_bytes(b"none")
    return root


def test_what_a_person_may_see():
    assert "a\\nb\\t\\x1b[0m\\u202e\\xe9 é" == printable("a\nb\t\x1b[0m\u202e\udce9 é")
    assert "👩\u200d💻.png" == printable("👩\u200d💻.png")
    assert "There is \\x1b" == str(ImageError("There is \x1b"))


def test_every_photograph_is_read_and_found_again(net, odd, tmp_path):
    found = survey(net, odd, out=tmp_path / "out")
    assert len(NAMES) == found.count
    assert [os.fsdecode(b"broken\n\xfe.png")] == list(found.skipped)
    again = open_survey(tmp_path / "out")
    assert list(found.items) == list(again.items)
    assert found.skipped == again.skipped
    assert [] == verify_survey(tmp_path / "out")
    for name in ("manifest.json", "summary.json"):
        (tmp_path / "out" / name).read_bytes().decode("utf-8")  # strictly
        assert json.loads((tmp_path / "out" / name).read_bytes())
    assert (len(NAMES), 3, 16, 16) == tuple(again.read(net, found.images["ids"].tolist()).shape)
    survey(net, odd, out=tmp_path / "out")
    assert len(NAMES) == merge_surveys([tmp_path / "out"], tmp_path / "merged").count
    assert digest(found.items) == digest(again.items)


def test_pages_captions_and_tables_show_them_escaped(net, odd, tmp_path):
    found = survey(net, odd, out=tmp_path / "out")
    layer = found.layers[0]
    best = top_activations(net, found, layer, 0)
    channel_sheet(net, best).save(tmp_path / "sheet.png")
    near = nearest_images(net, found, odd / found.items[0].name).table
    for suffix in ("png", "json", "csv", "npz"):
        near.save(tmp_path / f"near.{suffix}")
    page = channel_page(net, found, layer, 0, steps=1).html()
    laid_out = embedding_map_html(embedding_map(found, method="pca"))
    shown = [page, laid_out, found.top_classes(layer, 0).words(), near.words()]
    for text in shown:
        text.encode("utf-8")
        assert not {"\x1b", "\u202e", "\udce9"} & set(text)
    assert "\\\\xff\\\\nant" in laid_out  # as JavaScript writes one backslash
    assert "\\xff\\nant" in shown[2]
    assert {item.name for item in found.items} >= set(near.column("photograph"))


def test_lists_name_any_file(net, odd, tmp_path):
    names = [n for n in NAMES if b"\n" not in n]
    for k, name in enumerate(names):
        (tmp_path / os.fsdecode(name)).write_bytes((odd / found_first(odd)).read_bytes())
        assert k < len(names)
    (tmp_path / "list.txt").write_bytes(b"\r\n".join(names) + b"\n" + b"n" * 300 + b".png\n")
    photos = photographs(tmp_path / "list.txt")
    assert [*names, b"n" * 300 + b".png"] == [os.fsencode(i.name) for i in photos.items]
    found = survey(net, tmp_path / "list.txt", out=tmp_path / "out")
    assert (len(names), 1) == (found.count, len(found.skipped))


def found_first(root):
    return next(p for p in sorted(root.rglob("*.png")) if p.parent != root).relative_to(root)


@pytest.mark.parametrize("name", ["n" * 300, "a\0b", "~nobody-of-this-name/photos"])
def test_a_source_that_cannot_be_is_one_sentence(name):
    with pytest.raises(ImageError, match="There is no folder") as caught:
        photographs(name)
    assert str(caught.value).isprintable()
