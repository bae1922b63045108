"""Names of classes as people keep them: each class gets its own name, or it is said."""

import json
import warnings

import numpy as np
import pytest
import torch
from torch import nn
from torchvision.models import VGG16_Weights

import convscope
from convscope.errors import LoadError
from convscope.loading.labels import read_labels

NAMES = ("cat", "dog", "fish", "bird")


def network(outputs=4):
    return nn.Sequential(
        nn.Conv2d(3, 4, 3), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, outputs)
    )


def load(labels, outputs=4):
    return convscope.load(network(outputs), labels=labels, size=16, mean=0.5, std=0.5)


TEXT = {
    "plain.txt": "cat\ndog\nfish\nbird\n",
    "windows.txt": "cat\r\ndog\r\nfish\r\nbird\r\n\r\n",
    "mac.txt": "cat\rdog\rfish\rbird",
    "marked.txt": "\ufeffcat\ndog\nfish\nbird\n",
    "one.csv": "cat\ndog\nfish\nbird\n",
    "headed.csv": "name\ncat\ndog\nfish\nbird\n",
    "numbered.csv": "1,dog\n0,cat\n3,bird\n2,fish\n",
    "turned.csv": "class;index\ndog;1\ncat;0\nbird;3\nfish;2\n",
    "quoted.csv": '"id","class_name","count"\n"0","cat","17"\n"1","dog","17"\n"2","fish","17"\n"3","bird","2"\n',
    "foreign.csv": "Nummer,Tier\n1,dog\n0,cat\n3,bird\n2,fish\n",
    "tabs.tsv": "0\tcat\n1\tdog\n2\tfish\n3\tbird\n",
    "list.json": json.dumps(NAMES),
    "index.json": json.dumps({str(k): [f"n{k}", name] for k, name in enumerate(NAMES)}),
    "id2label.json": json.dumps({"3": "bird", "0": "cat", "2": "fish", "1": "dog"}),
    "class_to_idx.json": json.dumps({"bird": 3, "cat": 0, "dog": 1, "fish": 2}),
    "config.json": json.dumps({"id2label": dict(enumerate(NAMES)), "num_labels": 4}),
    "coco.json": json.dumps({"categories": [{"id": k, "name": n} for k, n in enumerate(NAMES)]}),
    "printed.txt": "{0: 'cat',\n 1: 'dog',\n 2: 'fish',\n 3: 'bird'}\n",
}


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16"])
@pytest.mark.parametrize("name", TEXT)
def test_every_kind_of_file_gives_each_class_its_name(name, encoding, tmp_path):
    file = tmp_path / name
    file.write_bytes(TEXT[name].removeprefix("\ufeff").encode(encoding))
    assert NAMES == read_labels(file) == read_labels(str(file))


@pytest.mark.parametrize(
    "labels",
    [
        list(NAMES),
        np.array(NAMES),
        {0: "cat", 1: "dog", 2: "fish", 3: "bird"},
        {"cat": 0, "dog": 1, "fish": 2, "bird": 3},
        {np.int64(3): "bird", np.int64(0): "cat", np.int64(1): "dog", np.int64(2): "fish"},
        {"id2label": {0: "cat", 1: "dog", 2: "fish", 3: "bird"}},
    ],
)
def test_sequences_and_dicts(labels):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        net = load(labels)
    assert NAMES == net.labels
    assert ["cat", "dog", "fish", "bird"] == [net.class_label(k) for k in range(4)]


def test_the_network_answers_with_the_name_of_its_class(tmp_path):
    module = network()
    with torch.no_grad():
        module[3].weight.zero_()
        module[3].bias.copy_(torch.tensor([0.0, 0, 0, 9]))
    file = tmp_path / "labels.txt"
    file.write_text("cat\n\nfish\nbird\n")
    net = convscope.load(module, labels=file, size=16, mean=0.5, std=0.5)
    assert convscope.predict(net, torch.rand(1, 3, 16, 16)).rows[0][2] == "bird"


def test_a_blank_line_stands_for_a_class_without_a_name(tmp_path):
    for name, text in {
        "a.txt": "cat\n\nfish\nbird\n",
        "b.json": '["cat", null, "fish", "bird"]',
    }.items():
        (tmp_path / name).write_text(text)
        net = load(tmp_path / name)
        assert ["cat", "class 1", "fish", "bird"] == [net.class_label(k) for k in range(4)]


def test_a_dict_may_leave_classes_out():
    net = load({3: "bird", 0: "cat"})
    assert ["cat", "class 1", "class 2", "bird"] == [net.class_label(k) for k in range(4)]


def test_western_letters_that_are_not_utf_8(tmp_path):
    (tmp_path / "labels.txt").write_bytes("café\nmésange\n".encode("latin-1"))
    assert ("café", "mésange") == read_labels(tmp_path / "labels.txt")


def test_commas_in_a_text_file_belong_to_the_name(tmp_path):
    (tmp_path / "labels.txt").write_text("tench, Tinca tinca\ngoldfish, Carassius auratus\n")
    assert "tench, Tinca tinca" == read_labels(tmp_path / "labels.txt")[0]


def test_imagenet():
    assert tuple(VGG16_Weights.IMAGENET1K_V1.meta["categories"]) == read_labels("imagenet")


@pytest.mark.parametrize(
    ("labels", "outputs", "said", "names"),
    [
        (
            ["cat", "dog"],
            4,
            "labels holds 2 names, but Sequential has 4 outputs: classes from 2 on go by their numbers.",
            ["cat", "dog", "class 2", "class 3"],
        ),
        (
            ["background", *NAMES],
            4,
            "labels holds 5 names, but Sequential has 4 outputs: names from 'bird' on are left out, "
            "and the others may be shifted.",
            ["background", "cat", "dog", "fish"],
        ),
        (
            ["no", "yes"],
            1,
            "labels holds 2 names, but Sequential has 1 output: give the one name of what a high score "
            "means, as labels=['yes'].",
            ["class 0"],
        ),
    ],
)
def test_names_are_counted_against_the_outputs(labels, outputs, said, names):
    with pytest.warns(UserWarning, match="labels holds") as told:
        net = load(labels, outputs)
    assert [said] == [str(one.message) for one in told]
    assert names == [net.class_label(k) for k in range(outputs)]


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        ("a.json", b"{", r"cannot be read as labels \("),
        ("a.json", b'{"a": "b"}', "must map numbers to names, or names to numbers"),
        ("a.json", b'{"cat": 0, "dog": 0}', "gives two names to class 0: 'cat' and 'dog'"),
        ("a.json", b'{"1000000000000": "cat"}', "which no network has"),
        ("a.json", b'[["a", 1]]', "must hold names"),
        ("a.txt", b"cat\0dog", "it holds bytes that are not text"),
        ("a.csv", b"n01,cat\nn02,dog\n", "it has 2 columns; head the one of names with 'name'"),
        ("data.yaml", b"names: [cat]", "give text with a name a line, CSV or JSON"),
    ],
)
def test_what_are_no_labels_is_said(name, content, said, tmp_path):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(LoadError, match=said):
        read_labels(tmp_path / name)


def test_a_set_has_no_order():
    with pytest.raises(LoadError, match=r"must be names in order, or \{number: name\}, not a set"):
        read_labels({"cat", "dog"})


def test_names_with_commas_in_one_text(tmp_path):
    assert ("cat", "dog") == read_labels("cat, dog")
    names = ",".join(f"class {k}" for k in range(1000))  # too long for the name of a file
    assert 1000 == len(read_labels(names))
    (tmp_path / "a,b.txt").write_text("cat\ndog")
    assert ("cat", "dog") == read_labels(str(tmp_path / "a,b.txt"))
