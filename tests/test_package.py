"""What is handed out: a wheel that works where nothing but its own requirements is installed."""

import os
import subprocess
import sys
import venv
import zipfile
from importlib.metadata import distribution
from pathlib import Path

import pytest
from packaging.requirements import Requirement

import convscope

ROOT = Path(__file__).parents[1]
pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def wheel(tmp_path_factory):
    folder = tmp_path_factory.mktemp("wheel")
    command = [sys.executable, "-m", "hatchling", "build", "--target", "wheel"]
    subprocess.run([*command, "--directory", str(folder)], cwd=ROOT, check=True)
    (found,) = folder.glob("convscope-*.whl")
    return found


def required(*words):
    """The distributions installed here that requirements bring in, and those that these require."""
    found, waiting = {}, [Requirement(word) for word in words]
    while waiting:
        one = waiting.pop()
        seen = one.name, frozenset(one.extras)
        if seen in found:
            continue
        found[seen] = distribution(one.name)
        for further in map(Requirement, found[seen].requires or ()):
            extras = one.extras or {""}
            if not further.marker or any(further.marker.evaluate({"extra": e}) for e in extras):
                waiting.append(further)
    return found.values()


def clean_environment(folder, wheel):
    """An environment with the wheel and what it requires, linked from this one: no network."""
    venv.create(folder, with_pip=False)
    python = folder / "bin" / "python"
    where = "import sysconfig; print(sysconfig.get_path('purelib'))"
    site = Path(subprocess.check_output([python, "-c", where], text=True).strip())
    with zipfile.ZipFile(wheel) as archive:
        (metadata,) = [n for n in archive.namelist() if n.endswith(".dist-info/METADATA")]
        lines = archive.read(metadata).decode().split("\n\n")[0].splitlines()
    wanted = [line.removeprefix("Requires-Dist: ") for line in lines if "Requires-Dist" in line]
    for one in required(*(word for word in wanted if "extra ==" not in word)):
        for top in {file.parts[0] for file in one.files} - {"..", "__pycache__"}:
            if not (site / top).exists():
                (site / top).symlink_to(one.locate_file(top))
    pip = [sys.executable, "-m", "pip", "--python", python, "install", "--quiet"]
    subprocess.run([*pip, "--no-deps", "--no-index", wheel], check=True)
    return folder / "bin"


@pytest.mark.parametrize(
    ("target", "stages"),
    [
        ("tour", ["Making .venv", "Installing convscope into .venv: 3 GB", "Explaining a photo"]),
        ("app", ["Making .venv", "Installing convscope", "Installing what the app", "Starting"]),
    ],
)
def test_make_says_what_it_does(target, stages):
    command = ["make", "--dry-run", "--always-make", "--no-print-directory", target]
    lines = subprocess.check_output(command, cwd=ROOT, text=True).splitlines()
    said = [line.removeprefix('echo "') for line in lines if line.startswith('echo "')]
    assert len(stages) == len(said)
    assert all(line.startswith(stage) for line, stage in zip(said, stages, strict=True))
    assert not any("--quiet" in line for line in lines if "uv pip" in line)


def test_the_wheel_has_every_file_of_the_package(wheel):
    source = Path(convscope.__file__).parent
    files = (path for path in source.rglob("*") if path.is_file() and path.suffix != ".pyc")
    with zipfile.ZipFile(wheel) as archive:
        packed = {name for name in archive.namelist() if ".dist-info/" not in name}
    assert {path.relative_to(source.parent).as_posix() for path in files} == packed


def test_its_description_points_to_nothing_that_an_index_lacks(wheel):
    with zipfile.ZipFile(wheel) as archive:
        (name,) = [n for n in archive.namelist() if n.endswith(".dist-info/METADATA")]
        text = archive.read(name).decode()
    assert "## Eleven lines of Python" in text
    assert "](" not in text
    assert "see docs/app.md" in text.lower()


def test_it_runs_the_tour_in_a_clean_environment(wheel, tmp_path):
    scripts = clean_environment(tmp_path / "environment", wheel)
    outside = tmp_path / "outside"
    outside.mkdir()
    clean = {k: v for k, v in os.environ.items() if not k.startswith("PYTHON")}

    def output(*command):
        return subprocess.check_output(command, cwd=outside, env=clean, text=True)

    where = "import convscope; print(convscope.__file__, convscope.__version__)"
    file, version = output(scripts / "python", "-c", where).split()
    assert Path(file).is_relative_to(scripts.parent)
    assert wheel.name.startswith(f"convscope-{version}-")
    assert "tour/index.html" == output(scripts / "convscope", "tour", "--size", "64").strip()
    assert "A look into the bundled network" in (outside / "tour" / "index.html").read_text(
        encoding="utf-8"
    )
