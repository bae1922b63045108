"""The notebooks run from start to end, are stored with small pictures, and name the line to change."""

from pathlib import Path

import nbformat
import pytest

FOLDER = Path(__file__).parents[1] / "notebooks"
NAMES = sorted(path.stem for path in FOLDER.glob("*.ipynb"))
WANTED = {
    *("filters", "activation_maps", "activation_maximization", "class_activation_maps"),
    *("deconvnet", "cs231n", "what_a_network_sees", "rethinking_generalization"),
}
MOST_BYTES = 3_000_000


def stored(name):
    return nbformat.read(FOLDER / f"{name}.ipynb", as_version=4)


def cells(name, kind):
    return [cell for cell in stored(name).cells if cell.cell_type == kind]


def test_all_are_there():
    assert set(NAMES) == WANTED


def test_together_they_are_small():
    assert MOST_BYTES > sum(path.stat().st_size for path in FOLDER.glob("*.ipynb"))


@pytest.mark.parametrize("name", NAMES)
def test_stored_as_they_ran(name):
    book = stored(name)
    nbformat.validate(book)
    code = cells(name, "code")
    assert list(range(1, len(code) + 1)) == [cell.execution_count for cell in code]
    outputs = [output for cell in code for output in cell.outputs]
    assert not [output for output in outputs if output.output_type == "error"]
    pictures = [o for o in outputs if any("image" in kind for kind in o.get("data", {}))]
    assert pictures or name == "rethinking_generalization"


@pytest.mark.parametrize("name", NAMES)
def test_says_which_line_to_change_for_vgg16(name):
    lines = [line for cell in cells(name, "code") for line in cell.source.splitlines()]
    words = " ".join(cell.source for cell in cells(name, "markdown"))
    named = [line for line in lines if "the only line to change for VGG16" in line]
    assert 1 == len(named) or "no line to change for VGG16" in words
    assert all('"torchvision:vgg16"' in line for line in named)


def test_the_course_notes_section_by_section():
    words = "\n".join(cell.source for cell in cells("cs231n", "markdown"))
    sections = [
        "Layer activations", "Conv/FC filters", "maximally activate a neuron", "t-SNE",
        "Occluding parts of the image", "data gradient", "Reconstructing original images",
        "spatial information", "image attributes", "Fooling ConvNets", "human labelers",
    ]  # fmt: skip
    places = [words.find(section) for section in sections]
    assert -1 not in places
    assert sorted(places) == places


@pytest.mark.slow
@pytest.mark.parametrize("name", NAMES)
@pytest.mark.filterwarnings("default")  # of the kernel's own packages
def test_runs_from_start_to_end(name):
    from nbclient import NotebookClient

    resources = {"metadata": {"path": str(FOLDER)}}
    NotebookClient(stored(name), timeout=None, resources=resources).execute()
