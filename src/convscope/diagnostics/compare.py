"""All methods on one photograph, side by side, with their cost and their score."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Self

import torch
from PIL import Image
from torch import Tensor

from convscope.catalog import CATALOG, Method
from convscope.checks.deletion_insertion import areas
from convscope.errors import ArgumentError, ConvscopeError, NotApplicableError
from convscope.images.read import Source
from convscope.network.network import Network
from convscope.network.takes_network import takes_network
from convscope.objectives.makers import Objective, as_objective, improbability, logit, probability
from convscope.objectives.objective import check_objective
from convscope.progress import Progress, Reporter, ShouldStop
from convscope.render.colour import to_uint8
from convscope.render.figure import Panel, enlarge, enlargement, figure
from convscope.render.grid import sheet
from convscope.results import FLAT, Cell, Heatmap, Recipe, Result, Table, recipe_for
from convscope.results.titles import title_of

if TYPE_CHECKING:
    from matplotlib.figure import Figure

FAMILIES = ("cam", "pixels", "masks")
COLUMNS_OF_MAPS, TILE = 4, 280  # maps in a row, and pixels of each at least
COLUMNS = ("method", "family", "seconds", "deletion", "insertion", "note")


@dataclass(frozen=True)
class Row:
    """What one method gave.

    Attributes:
        method: its entry in the catalogue.
        heat: its map; None where it does not apply.
        seconds: how long it took.
        areas: of deletion and insertion by the map.
        note: why there is no map, or what the method could not do for this network.
    """

    method: Method
    heat: Heatmap | None
    seconds: float
    areas: tuple[float, float] | None
    note: str = ""


@dataclass(frozen=True, eq=False)
class Comparison(Result):
    """Maps of several methods for one photograph and one objective.

    Attributes:
        rows: in the order of the catalogue.
        recipe: how they were made.

    Example:
        >>> import convscope as cs
        >>> sheet = cs.compare(cs.load(size=64), "sample:china", methods=["gradcam", "layercam"])
        >>> sheet.table().columns
        ('method', 'family', 'seconds', 'deletion', 'insertion', 'note')
        >>> [row.heat.values.shape for row in sheet.rows]
        [torch.Size([1, 4, 4]), torch.Size([1, 4, 4])]
    """

    rows: Sequence[Row]
    recipe: Recipe

    def figure(self, *_args: Any, **drawing: Any) -> Figure:
        """Every map over the photograph, with run time, deletion and insertion.

        Args:
            **drawing: `theme`, "light" or "dark".
        """
        panels = [_panel(row, row.heat) for row in self.rows if row.heat is not None]
        title = f"{len(panels)} methods for {self._target()}"
        note = "each map in its own scale; deletion: lower is better, insertion: higher"
        return figure(
            panels,
            title=title,
            subtitle=f"{self.recipe.network} · {note}",
            theme=drawing.get("theme", "light"),
            columns=min(COLUMNS_OF_MAPS, len(panels)),
        )

    def _draw(self, *_args: Any, theme: str = "light", **_drawing: Any) -> Image.Image:
        tiles = [as_tile(row.heat) for row in self.rows if row.heat is not None]
        return sheet(tiles, tile=200, columns=min(COLUMNS_OF_MAPS, len(tiles)), theme=theme)

    def _target(self) -> str:
        """What was explained, by the scores of the first method that read them."""
        known = (row.heat.recipe.explained for row in self.rows if row.heat is not None)
        first = next((explained for explained in known if explained), None)
        return str(first[0]) if first else self.recipe.objective or ""

    def table(self) -> Table:
        """The figures, sorted by deletion, the best first."""
        rows = sorted((_cells(row) for row in self.rows), key=_by_deletion)
        return Table(COLUMNS, rows, self.recipe)

    def words(self) -> str:
        """A description of the comparison."""
        return f"{len(self.rows)} methods for {self._target()} ({self.recipe.network})"

    def __len__(self) -> int:
        """How many methods."""
        return len(self.rows)

    def _some(self, numbers: list[int]) -> Self:
        return replace(self, rows=[self.rows[k] for k in numbers])

    def _fields(self) -> Mapping[str, Any]:
        """Methods by their names."""
        own = [{**vars(row), "method": row.method.name} for row in self.rows]
        return {"rows": own, "recipe": self.recipe}

    @classmethod
    def _from_fields(cls, fields: Mapping[str, Any]) -> Self:
        rows = [Row(**{**row, "method": CATALOG[row["method"]]}) for row in fields["rows"]]
        return cls(rows, fields["recipe"])


@takes_network
def compare(
    net: Network,
    photo: Tensor | Source,
    objective: Objective | str | int | None = None,
    *,
    methods: Sequence[str] | None = None,
    seed: int = 0,
    progress: Progress | None = None,
    should_stop: ShouldStop | None = None,
) -> Comparison:
    """Run all methods on one photograph.

    Args:
        net: the network.
        photo: (1, 3, H, W) pixels in [0, 1], or one photograph as `read` takes it.
        objective: as in `cam`; None means the class predicted for the photograph.
        methods: names of the catalogue; None takes all that make maps.
        seed: of every random choice.
        progress: called with done, total and the method.
        should_stop: asked between methods; what is finished is returned.

    Returns:
        A row a method: its map, the seconds it took, the areas of its deletion and insertion curves,
        or the reason why it gives no map.

    Raises:
        ArgumentError: if a name is not in the catalogue, or makes no map.
        NotApplicableError: if no method gives a map for this network and question.
        ImageError: if a photograph cannot be read.
        TargetError: if the network has nothing that the objective asks for.

    Example:
        >>> import convscope as cs
        >>> sheet = cs.compare(cs.load(size=64), "sample:china", methods=["gradcam", "gradient"])
        >>> [row.method.name for row in sheet.rows]
        ['gradcam', 'gradient']
        >>> sheet.save("compare.png").name
        'compare.png'
    """
    chosen = _chosen(methods)
    pixels = net.as_single_image(photo)
    question = as_objective(objective).for_images(0, 1)
    with torch.no_grad():
        acts = net.run(pixels, question.layers)
    question = question.resolve_target(acts)
    check_objective(question, acts)
    reporter = Reporter(len(chosen), "methods", progress, should_stop)
    rows = [
        _row(net, pixels, question, method, seed)
        for method in reporter.each(chosen, lambda method: method.name)
    ]
    if rows and all(row.heat is None for row in rows):
        msg = f"None of the methods gives a map. {rows[0].method.name}: {rows[0].note}"
        raise NotApplicableError(msg)
    recipe = recipe_for(net, "compare", question.label, seed=seed, methods=[m.name for m in chosen])
    return Comparison(rows, recipe)


def _chosen(methods: Sequence[str] | None) -> list[Method]:
    able = {m.name: m for m in CATALOG.values() if m.family in FAMILIES}
    for name in methods or ():
        if name not in able:
            msg = f"There is no method {name!r} that makes a map; there are {', '.join(able)}."
            raise ArgumentError(msg)
    return [able[name] for name in methods] if methods else list(able.values())


def _row(net: Network, pixels: Tensor, objective: Objective, method: Method, seed: int) -> Row:
    options = {"seed": seed} if "seed" in method.parameters else {}
    start = time.perf_counter()
    try:
        heat = method.run(net, pixels, objective, **options)
    except ConvscopeError as reason:
        return Row(method, None, 0.0, None, str(reason))
    seconds = time.perf_counter() - start
    if not isinstance(heat, Heatmap):
        return Row(method, None, seconds, None, "makes no map")
    note = heat.recipe.annotated(f"The map is {FLAT}.") if heat.is_flat() else heat.recipe.note
    return Row(method, heat, seconds, areas(net, heat, watched(net, objective)), note)


def watched(net: Network, objective: Objective) -> Objective:
    """What deletion and insertion watch: a class's probability, any other objective itself.

    Of a single score below 0, which speaks against its class, it is one less the probability; of a
    network whose scores have no probabilities it is the objective itself.
    """
    if net.probability_rule.kind == "none":
        return objective
    if objective == -logit(0):
        return improbability(0)
    return objective if objective.class_id is None else probability(objective.class_id)


def as_tile(heat: Heatmap) -> Any:
    """A map over its photograph as numbers in [0, 1]."""
    import numpy as np

    return (
        np.asarray(heat.picture(opacity=0.6, caption=False, colourbar=False), dtype=np.float32)
        / 255
    )


def _panel(row: Row, heat: Heatmap) -> Panel:
    pixels = to_uint8(as_tile(heat))
    times = enlargement(pixels.shape[0], pixels.shape[1], TILE)
    curves = f" · deletion {row.areas[0]:.2f}, insertion {row.areas[1]:.2f}" if row.areas else ""
    return Panel(enlarge(pixels, times), title_of(row.method.name), f"{row.seconds:.2f} s{curves}")


def _cells(row: Row) -> list[Cell]:
    result = row.areas or (None, None)
    return [row.method.name, row.method.family, round(row.seconds, 3), *result, row.note]


def _by_deletion(cells: Sequence[Cell]) -> float:
    return float("inf") if cells[3] is None else float(cells[3])
