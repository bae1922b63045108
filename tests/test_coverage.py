"""docs/coverage.md says what is true: its commands, options, functions, notebooks and tests exist."""

import re
import shlex
from functools import cache
from pathlib import Path

import pytest
from typer.testing import CliRunner

import convscope

ROOT = Path(__file__).parents[1]
TABLE = (ROOT / "docs" / "coverage.md").read_text(encoding="utf-8")
LINES = [line for line in TABLE.splitlines() if re.match(r"\| \d+ \|", line)]
ROWS = [[cell.strip() for cell in line.strip("|").split(" |")] for line in LINES]


@cache
def helped(words):
    """What `convscope WORDS --help` prints; None where there is no such command."""
    from convscope.cli.commands import app

    # a wide page, so that no option is cut
    found = CliRunner().invoke(app, [*words, "--help"], env={"COLUMNS": "200", "TERM": "dumb"})
    return found.output if found.exit_code == 0 else None


def commands(cell):
    """(words of the command, its options) of each command in a cell."""
    for text in re.findall(r"`convscope ([^`]+)`", cell):
        words = shlex.split(text)
        deep = 2 if words[0] == "study" else 1
        yield tuple(words[:deep]), [w for w in words if w.startswith("--")]


def test_every_row_once():
    assert [str(k) for k in range(1, 98)] == [row[0] for row in ROWS]
    assert {5} == {len(row) for row in ROWS}


def test_methods_md_names_every_attribution_method():
    page = (ROOT / "docs" / "methods.md").read_text(encoding="utf-8")
    families = ("cam", "pixels", "masks")
    names = [name for name, one in convscope.CATALOG.items() if one.family in families]
    assert [] == [name for name in names if f"`{name}`" not in page]


@pytest.mark.parametrize("row", ROWS, ids=[row[0] for row in ROWS])
def test_row(row):
    _, shown, here, test, remark = row
    assert shown
    if remark.startswith("not planned"):
        assert re.match(r"not planned: \w.{10}", remark)
        assert not here
        return
    assert here
    _check_commands(here)
    _check_functions(here)
    _check_notebooks(here)
    _check_test(test)


def _check_commands(here):
    for words, options in commands(here):
        page = helped(words)
        assert page is not None, words
        assert "Usage" in page
        for option in options:
            assert re.search(rf"{option}\b", page), (words, option)


def _check_functions(here):
    for name in re.findall(r"`convscope\.(\w+)`", here):
        assert hasattr(convscope, name), name


def _check_notebooks(here):
    for name in re.findall(r"notebook (\w+)", here):
        assert (ROOT / "notebooks" / f"{name}.ipynb").is_file(), name


def _check_test(cell):
    name, path = re.fullmatch(r"\[(\w+)\]\(\.\./(tests/[\w/]+\.py)\)", cell).groups()
    assert f"def {name}(" in (ROOT / path).read_text(encoding="utf-8"), (path, name)
