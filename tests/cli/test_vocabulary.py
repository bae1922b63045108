"""One vocabulary: docs/cli.md lists every option once, with its meaning and its commands."""

import inspect
import re
from collections import defaultdict
from pathlib import Path
from typing import get_args, get_type_hints

import pytest
import typer

from convscope.cli.commands import app
from convscope.cli.options import NetworkOptions

PAGE = (Path(__file__).parents[2] / "docs" / "cli.md").read_text(encoding="utf-8")
README = (Path(__file__).parents[2] / "README.md").read_text(encoding="utf-8")
WITHOUT_NETWORK = {"models", "arithmetic", "merge-surveys", "embedding-map", "study randomization"}
EVERY = "all with a network"


def commands(typer_app=app, *before):
    """(name, function) of every command."""
    for one in typer_app.registered_commands:
        name = one.name or one.callback.__name__.replace("_", "-")
        yield " ".join((*before, name)), one.callback
    for group in typer_app.registered_groups:
        yield from commands(group.typer_instance, *before, group.name)


def options(function):
    """(long name, short name, meaning, kind, placeholder) of every option of a command."""
    own = hasattr(function, "__signature__")
    hints = function.__annotations__ if own else get_type_hints(function, include_extras=True)
    for name in inspect.signature(function).parameters:
        kind, *extras = get_args(hints[name])
        for option in (one for one in extras if isinstance(one, typer.models.OptionInfo)):
            first = [option.default] if isinstance(option.default, str) else []
            words = [*first, *(option.param_decls or ())] or [f"--{name.replace('_', '-')}"]
            long, short = (next((w for w in words if re.match(s, w)), "") for s in ("--", "-[a-z]"))
            meaning = re.split(r"[:;.](?: |$)", option.help)[0]
            text = re.sub(r" \| None$", "", getattr(kind, "__name__", str(kind)))
            yield long, short, meaning, re.sub(r"pathlib\.Path|Path", "str", text), option.metavar


OPTIONS = defaultdict(lambda: defaultdict(list))
for _name, _function in commands():
    for _long, *_about in options(_function):
        OPTIONS[_long][tuple(_about)].append(_name)


def rows():
    """The table as it should stand in docs/cli.md."""
    with_options = [name for name, _ in commands() if name not in WITHOUT_NETWORK]
    for long, uses in sorted(OPTIONS.items()):
        ((short, meaning, _, placeholder),) = uses
        names = next(iter(uses.values()))
        if set(names) >= set(with_options):
            others = [name for name in names if name not in with_options]
            names = [EVERY, *others]
        words = f"{long.split('/')[0]} {placeholder}" if placeholder else long
        shown = ", ".join(f"`{w}`" for w in (words.replace("|", "\\|"), short) if w)
        yield f"| {shown} | {meaning} | {', '.join(names)} |"


@pytest.mark.parametrize("option", sorted(OPTIONS))
def test_a_name_is_one_thing(option):
    assert 1 == len(OPTIONS[option]), dict(OPTIONS[option])


def test_the_page_lists_every_option():
    table = [line for line in PAGE.splitlines() if line.startswith("| `--")]
    assert list(rows()) == table


def test_every_command_takes_all_options_of_a_network_or_none():
    shared = {"--" + name.replace("_", "-") for name in NetworkOptions.__dataclass_fields__}
    for name, function in commands():
        own = {long for long, *_ in options(function)}
        expected = shared if name not in WITHOUT_NETWORK else own & {"--seed", "--device"}
        assert expected == own & shared, name


def test_the_same_thing_has_one_name():
    """What names of earlier days stood for."""
    gone = {"--input-size", "--side", "--strongest", "--best", "--count", "--classes", "--class"}
    assert not gone & set(OPTIONS)


def test_the_readme_names_the_options_of_a_network():
    (sentence,) = re.findall(r"Commands that load a network take ([^.]*)\.", README)
    shared = ["--" + name.replace("_", "-") for name in NetworkOptions.__dataclass_fields__]
    assert shared == re.findall(r"--[a-z-]+", sentence)


@pytest.mark.parametrize("name", ["predict", "maps", "cam", "saliency", "occlusion", "deconv"])
def test_the_page_names_the_commands_that_take_several(name):
    assert f"`{name}`" in PAGE
