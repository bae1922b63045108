"""Lists of photographs as spreadsheets, scripts and competitions write them."""

import pytest

from convscope.dataset.list_file import read_list
from convscope.dataset.source import photographs
from convscope.errors import ImageError
from tests.dataset.conftest import draw

BOTH = [("img/a.png", "cat"), ("img/b.png", "dog")]


@pytest.fixture
def folder(tmp_path):
    for name in ("img/a.png", "img/b.png", "img/c, d.png", "with space.png"):
        draw(tmp_path / name, 0)
    return tmp_path


def listed(folder, text, encoding="utf-8"):
    (folder / "list.csv").write_bytes(text.encode(encoding))
    return read_list(folder / "list.csv")


@pytest.mark.parametrize(
    "text",
    [
        "img/a.png,cat\nimg/b.png,dog\n",
        "img/a.png\tcat\r\nimg/b.png\tdog\r\n",
        "img/a.png;cat\nimg/b.png;dog\n",
        "img/a.png, cat\nimg/b.png, dog",
        "img/a.png cat\nimg/b.png dog\n",
        "# mine\n\n./img/a.png,cat\n./img/b.png,dog\n\n",
        '"img/a.png","cat"\n"img/b.png","dog"\n',
        "img/a.png,cat,train\nimg/b.png,dog,val\n",
        "path,label\nimg/a.png,cat\nimg/b.png,dog\n",
        "Path;Label;Note\nimg/a.png;cat;7,5\nimg/b.png;dog;0,1\n",
        "split,species,Image Path\ntrain,cat,img/a.png\nval,dog,img/b.png\n",
        "cat,img/a.png\ndog,img/b.png\n",
        "id,breed\nimg/a,cat\nimg/b,dog\n",
        "img\\a.png,cat\nimg\\b.png,dog\n",
    ],
)
@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16"])
def test_every_way_of_writing_gives_path_and_label(folder, text, encoding):
    found = [(name.removeprefix("./"), label) for name, label in listed(folder, text, encoding)]
    assert BOTH == found


def test_names_that_hold_what_separates(folder):
    assert [("img/c, d.png", None)] == listed(folder, "img/c, d.png\n")
    assert [("img/c, d.png", "cat")] == listed(folder, "img/c, d.png\tcat\n")
    assert [("img/c, d.png", "cat")] == listed(folder, '"img/c, d.png",cat\n')
    assert [("with space.png", None), ("with space.png", "3")] == listed(
        folder, "with space.png\nwith space.png 3\n"
    )


def test_names_that_are_not_utf_8(tmp_path):
    (tmp_path / "list.txt").write_bytes(b"\xe9.png,cat\n")
    assert [("\udce9.png", "cat")] == read_list(tmp_path / "list.txt")


def test_a_list_without_labels_and_with_a_head(folder):
    assert [("img/a.png", None), ("gone.png", None)] == listed(
        folder, "filename\nimg/a.png\ngone.png\n"
    )


def test_a_list_of_heads_alone_lists_nothing(folder):
    with pytest.raises(ImageError, match="lists no photographs"):
        listed(folder, "path,label\n")


def test_what_programs_keep_in_a_folder_are_no_classes(tmp_path):
    root = tmp_path / ".data"  # what the person names is not passed over
    for name in ("cat/1.png", "dog/1.png", "trash/1.png"):
        draw(root / name, 0)
    kept = [item.name for item in photographs(root).items]
    for name in (
        "cat/.ipynb_checkpoints/1-checkpoint.png",
        "dog/@eaDir/1.png/SYNOPHOTO_THUMB_M.jpg",
        ".thumbnails/normal/1.png",
        ".Trash-1000/files/1.png",
        "$RECYCLE.BIN/S-1-5/1.png",
        "__MACOSX/cat/1.png",
        "lost+found/1.png",
        "#recycle/1.png",
        "cat/._1.png",
    ):
        draw(root / name, 0)
    assert ["cat/1.png", "dog/1.png", "trash/1.png"] == kept
    assert kept == [item.name for item in photographs(root).items]
    assert ["cat", "dog", "trash"] == [item.label for item in photographs(root).items]
