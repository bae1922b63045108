"""docs/architecture.md draws the tree as it is."""

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
SOURCE = ROOT / "src" / "convscope"
PAGE = (ROOT / "docs" / "architecture.md").read_text(encoding="utf-8")
TREE = PAGE.split("```")[1]
ROOMS = sorted(path.parent.name for path in SOURCE.glob("*/__init__.py"))
SUMMARISED = {"app", "cli", "report"}  # the tree names only some of their files


@pytest.mark.parametrize("room", ROOMS)
def test_the_tree_names_every_file_of_a_room(room):
    block = re.search(rf"^  {room}/(.*?)(?=^  \S|\Z)", TREE, re.MULTILINE | re.DOTALL)
    assert block, room
    files = {path.stem for path in (SOURCE / room).glob("*.py")} - {"__init__"}
    named = set(re.findall(r"\w+", block[1]))
    assert room in SUMMARISED or files <= named, files - named


def test_the_tree_names_every_file_at_the_top():
    files = {path.name for path in SOURCE.glob("*.py") if not path.name.startswith("__")}
    assert files == set(re.findall(r"^  (\w+\.py)", TREE, re.MULTILINE))


def test_the_mechanisms_live_where_the_table_says():
    paths = re.findall(r"`((?:\w+/)+(?:\w+\.py)?)`", PAGE)
    assert len(paths) > 15
    assert [path for path in paths if not (SOURCE / path).exists()] == []
