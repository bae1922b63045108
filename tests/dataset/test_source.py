"""Photographs from folders, lists and data sets."""

import os

import numpy as np
import pytest
import torch

from convscope.dataset.source import digest, photographs
from convscope.errors import ArgumentError, ImageError
from tests.dataset.conftest import draw


def test_labels_come_from_the_nearest_folder(tmp_path):
    for name in ("train/ant/1.png", "val/ant/1.png", "alone.png", "bee/été ü.png"):
        draw(tmp_path / name, 0)
    items = photographs(tmp_path).items
    assert {
        "alone.png": None,
        "bee/été ü.png": "bee",
        "train/ant/1.png": "ant",
        "val/ant/1.png": "ant",
    } == {item.name: item.label for item in items}


def test_a_list_names_files_and_labels(tmp_path):
    draw(tmp_path / "a b.png", 0)
    (tmp_path / "list.txt").write_text("# mine\na b.png\tant\n\ngone.png\nx.png, bee\n")
    items = photographs(tmp_path / "list.txt").items
    assert [("a b.png", "ant"), ("gone.png", None), ("x.png", "bee")] == [
        (item.name, item.label) for item in items
    ]


def test_a_torch_data_set_gives_its_labels(net):
    class Set:
        classes = ("ant", "bee")
        targets = (1, 0)

        def __len__(self):
            return 2

        def __getitem__(self, k):
            return np.full((16, 16, 3), 100 * k, np.uint8), self.targets[k]

    photos = photographs(Set())
    assert ["bee", "ant"] == [item.label for item in photos.items]
    assert torch.allclose(photos.read(net, 1), torch.full((1, 3, 16, 16), 100 / 255))


def test_what_a_data_set_raises_is_said(net):
    class Broken(list):
        def __getitem__(self, _):
            raise KeyError(7)

    with pytest.raises(
        ImageError,
        match="Item 0 cannot be read (7).".replace("(", r"\(").replace(")", r"\)"),
    ):
        photographs(Broken([1])).read(net, 0)


def test_a_changed_file_is_another_list(tmp_path):
    draw(tmp_path / "a.png", 0)
    before = photographs(tmp_path).items
    os.utime(tmp_path / "a.png", ns=(1, 1))
    after = photographs(tmp_path).items
    assert digest(before) != digest(after)
    assert digest(before, times=False) == digest(after, times=False)


@pytest.mark.parametrize(
    ("make", "kind", "words"),
    [
        (lambda p: p / "none", ImageError, "There is no folder"),
        (lambda p: p, ImageError, "holds no pictures."),
        (lambda _: 7, ArgumentError, "not from int."),
        (lambda _: [], ImageError, "This list is empty."),
    ],
)
def test_what_is_no_source_is_refused(tmp_path, make, kind, words):
    with pytest.raises(kind, match=words):
        photographs(make(tmp_path))


def test_a_list_that_is_none_is_refused(tmp_path):
    (tmp_path / "list.txt").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(ImageError, match="must be text with one path per line."):
        photographs(tmp_path / "list.txt")
    (tmp_path / "list.txt").write_text("# nothing\n")
    with pytest.raises(ImageError, match="lists no photographs"):
        photographs(tmp_path / "list.txt")
