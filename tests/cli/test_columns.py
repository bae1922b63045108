"""Tables in a terminal: no number and no word of a header is broken, and what is left out is named."""

import random

import pytest

from convscope.cli import show
from convscope.cli.columns import fit_columns
from convscope.loading.load import load
from convscope.view.table import layer_table


@pytest.mark.parametrize("seed", range(50))
def test_columns_fit_and_nothing_is_broken(seed):
    draw = random.Random(seed)  # noqa: S311
    header = [
        " ".join("h" * draw.randint(1, 10) for _ in range(draw.randint(1, 3))) for _ in range(8)
    ]
    rows = [["x" * draw.randint(0, 30) for _ in header] for _ in range(5)]
    words = [k for k in range(8) if draw.random() < 0.5]
    width = draw.randint(40, 200)
    chosen = fit_columns(header, rows, width, words=words)
    assert sum(chosen.widths) + 2 * (len(chosen.widths) - 1) <= width or len(chosen.numbers) == 1
    for k, wide in zip(chosen.numbers, chosen.widths, strict=True):
        assert wide >= max(map(len, header[k].split()))
        assert wide >= max(len(row[k]) for row in rows) or (k in words and wide >= 16)
    assert [header[k] for k in range(8) if k not in chosen.numbers] == chosen.left_out


def test_a_wide_terminal_leaves_nothing_out():
    rows = [["conv:1", "", "1"], ["stage:1", "stage:1", "1"]]
    assert fit_columns(["layer", "stage", "runs"], rows, 80).left_out == []


def test_columns_that_say_nothing_go_before_the_others():
    rows = [["conv:1", "", "1", "abc"], ["stage:1", "stage:1", "1", "def"]]
    chosen = fit_columns(["layer", "stage", "runs", "kind"], rows, 14)
    assert chosen.left_out == ["stage", "runs"]


def test_the_table_of_layers_in_eighty_columns(capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "80")
    monkeypatch.setenv("NO_COLOR", "1")
    monkeypatch.setenv("TERM", "dumb")
    monkeypatch.setattr("sys.stdout.isatty", lambda: True)
    show.table(layer_table(load()))
    out, err = capsys.readouterr()
    lines = out.splitlines()
    assert max(map(len, lines)) <= 80
    for whole in ("parameters", "230,560", "features.18"):
        assert whole in out
    assert err == "No room for stage, runs: use a wider terminal or --json.\n"
