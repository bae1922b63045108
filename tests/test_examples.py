"""Every public name is shown at work: the examples of the docstrings run as they stand.

The example of a public name is complete: it starts with its imports and needs nothing else.
Other docstrings see the names of their module.
"""

import builtins
import doctest
import importlib
import inspect
import re
import runpy
from pathlib import Path

import pytest

import convscope

SLOW = {
    *("adversarial", "check", "Check", "compare", "Comparison", "randomization_check", "tour"),
    *("with_spectrum", "correspondence", "evolution", "invariance", "randomization_study"),
}
FINDER = doctest.DocTestFinder(recurse=False)


def some_slow(names):
    return [pytest.param(n, marks=[pytest.mark.slow] if n in SLOW else []) for n in names]


def run(test, folder, monkeypatch):
    monkeypatch.chdir(folder)
    assert not any(example.options for example in test.examples)  # nothing skipped or left open
    said = []
    found = doctest.DocTestRunner(verbose=False).run(test, out=said.append)
    assert (0, len(test.examples)) == found, "".join(said)


def examples_in(module):
    """Doctests of a module's own functions, classes and methods, public names aside."""
    public = {id(getattr(convscope, name)) for name in convscope.__all__}
    names = {f"{module.__name__}.{n}" for n, value in vars(module).items() if id(value) in public}
    return [t for t in doctest.DocTestFinder().find(module) if t.examples and t.name not in names]


SOURCE = Path(convscope.__file__).parent
MODULES = sorted(
    ".".join(path.relative_to(SOURCE.parent).with_suffix("").parts)
    for path in SOURCE.rglob("*.py")
    if ">>> " in path.read_text(encoding="utf-8")
)


def test_slow_names_are_public():
    assert set(convscope.__all__) >= SLOW


@pytest.mark.parametrize("name", some_slow(sorted(convscope.__all__)))
def test_public_name(name, tmp_path, monkeypatch):
    (test,) = FINDER.find(getattr(convscope, name), name, globs={})
    assert test.examples, f"the docstring of {name} has no example"
    run(test, tmp_path, monkeypatch)


def undocumented(name):
    """What a public function's docstring leaves out: a parameter, or what it returns."""
    function = getattr(convscope, name)
    if not inspect.isfunction(function):
        return []
    said = inspect.getdoc(function)
    parts = {p: rf"^    \**{p}: " for p in inspect.signature(function).parameters}
    parts["Returns"] = "^Returns:$"
    return [
        f"{name}: {part}" for part, line in parts.items() if not re.search(line, said, re.MULTILINE)
    ]


def test_public_functions_say_what_they_take_and_return():
    assert [] == [part for name in convscope.__all__ for part in undocumented(name)]


def raised(thing):
    """Exceptions that a docstring names under Raises, those of a class's own methods among them."""
    parts = [thing, *(vars(thing).values() if inspect.isclass(thing) else ())]
    texts = (inspect.getdoc(one) or "" for one in parts if getattr(one, "__name__", "_")[0] != "_")
    sections = (re.split(r"^Raises:\n", text, flags=re.MULTILINE)[1:] for text in texts)
    return {name for found in sections for text in found for name in re.findall(RAISED, text)}


RAISED = re.compile(r"^    (\w+):", re.MULTILINE)


def test_exceptions_that_public_docstrings_name_are_public():
    named = {one: name for name in convscope.__all__ for one in raised(getattr(convscope, name))}
    assert len(named) > 5
    assert {} == {
        one: name
        for one, name in named.items()
        if not hasattr(builtins, one) and one not in convscope.__all__
    }


@pytest.mark.parametrize("name", MODULES)
def test_other_docstrings(name, tmp_path, monkeypatch):
    for test in examples_in(importlib.import_module(name)):
        run(test, tmp_path, monkeypatch)


def test_constants_cannot_be_changed():
    with pytest.raises(TypeError, match="does not support item assignment"):
        convscope.PRESETS["mine"] = convscope.PRESETS["fourier"]


@pytest.mark.slow
def test_readme(tmp_path, monkeypatch):
    """The lines of Python that need neither a network of one's own nor a download."""
    monkeypatch.chdir(tmp_path)
    text = (SOURCE.parents[1] / "README.md").read_text(encoding="utf-8")
    first, second, *_ = re.findall(r"```python\n(.*?)```", text, re.DOTALL)
    Path("readme.py").write_text(first + second, encoding="utf-8")
    runpy.run_path("readme.py")
    assert {"filters.png", "maps.png", "cam.png", "cam.npz"} <= {p.name for p in tmp_path.iterdir()}
