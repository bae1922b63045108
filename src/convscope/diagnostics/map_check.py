"""All checks of one map."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from torch import Tensor

from convscope.catalog import CATALOG
from convscope.checks.deletion_insertion import deletion_insertion
from convscope.checks.randomization_check import randomization_check
from convscope.diagnostics.compare import FAMILIES, watched
from convscope.errors import ArgumentError
from convscope.images.read import Source
from convscope.network.network import Network
from convscope.network.takes_network import takes_network
from convscope.objectives.makers import Objective, as_objective
from convscope.progress import Progress
from convscope.results import Chart, Heatmap, Table, recipe_for


@dataclass(frozen=True)
class Check:
    """The checks of one map.

    Attributes:
        chart: deletion, insertion and, where asked for, maps of random weights.
        table: areas of the curves by what orders the pixels.
        sentences: what they say in plain words.

    Example:
        >>> import convscope as cs
        >>> found = cs.check(cs.load(size=64), "sample:china", "class:church", method="gradient")
        >>> found.table.columns
        ('order of pixels', 'deletion', 'insertion')
        >>> list(found.chart.panels)
        ['deletion (lower is better)', 'insertion (higher is better)']
    """

    chart: Chart
    table: Table
    sentences: Sequence[str]


@takes_network
def check(
    net: Network,
    photo: Tensor | Source,
    objective: Objective | str | int | None = None,
    *,
    method: str = "gradcam",
    randomize: str = "",
    seed: int = 0,
    progress: Progress | None = None,
) -> Check:
    """Check a method's map of one photograph.

    Deletion and insertion are Petsiuk et al. 2018, arXiv:1806.07421; random weights Adebayo et al.
    2018, arXiv:1810.03292.

    Args:
        net: the network.
        photo: (1, 3, H, W) pixels in [0, 1], or one photograph as `read` takes it.
        objective: as in `cam`; None means the class predicted for the photograph.
        method: any of the catalogue that makes maps.
        randomize: "cascading" or "single" also compares maps of random weights; "" does not.
        seed: of every random choice.
        progress: called with done, total and a message.

    Returns:
        A chart of the curves, a table of their areas, and what they say in sentences.

    Raises:
        ArgumentError: if there is no such method.
        ImageError: if a photograph cannot be read.
        TargetError: if the network has nothing that the objective asks for.

    Example:
        >>> import convscope as cs
        >>> found = cs.check(cs.load(size=64), "sample:china", "class:church", method="gradcam")
        >>> found.table.column("order of pixels")
        ['map', 'centre', 'chance']
        >>> len(found.sentences)
        1
        >>> found.chart.save("check.png").name
        'check.png'
    """
    entry = CATALOG.get(method)
    if entry is None or entry.family not in FAMILIES:
        names = ", ".join(m.name for m in CATALOG.values() if m.family in FAMILIES)
        msg = f"There is no method {method!r} that makes a map; there are {names}."
        raise ArgumentError(msg)
    pixels = net.as_single_image(photo)
    target = net.resolve_target(as_objective(objective).for_images(0, 1), pixels)

    def make(other: Network, images: Tensor) -> Heatmap:
        result = entry.run(other, images, target)
        assert isinstance(result, Heatmap)  # noqa: S101 - so are these families defined
        return result

    checked = watched(net, target)
    heat = make(net, pixels)
    curves = deletion_insertion(net, heat, checked, seed=seed)
    named = heat.recipe.explained
    recipe = recipe_for(net, f"check, {method}", checked.label, seed=seed).explaining(named)
    chart = curves.chart(recipe, named[0].label if named else checked.label)
    sentences = [chart.sentence]
    if randomize:
        random = randomization_check(net, pixels, make, how=randomize, seed=seed, progress=progress)
        chart = replace(chart, panels={**chart.panels, **random.panels})
        sentences.append(random.sentence)
    areas = curves.areas()
    rows = [(name, *areas[name]) for name in areas]
    table = Table(("order of pixels", "deletion", "insertion"), rows, chart.recipe)
    return Check(chart, table, sentences)
