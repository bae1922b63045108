"""Reading a saved result."""

from __future__ import annotations

from pathlib import Path

from convscope.attribution.occlusion_figures import OcclusionPanels
from convscope.dataset.embedding_map import EmbeddingMap
from convscope.diagnostics.compare import Comparison
from convscope.results import Chart, Film, Heatmap, Pictures, Result, SideBySide, Strip, Table
from convscope.results.archive import unpack

_KINDS: tuple[type[Result], ...] = (
    *(Heatmap, Pictures, Strip, Film, Chart, Table, SideBySide),
    *(OcclusionPanels, Comparison, EmbeddingMap),
)
KINDS = {kind.__name__: kind for kind in _KINDS}
"""Name in the file -> every kind of result."""


def load_result(path: str | Path) -> Result:
    """Read back the .npz file of any result.

    No pickle is ever read, so the file of a stranger can run nothing.

    Args:
        path: of a file that `result.save("name.npz")` wrote.

    Returns:
        The same kind of result, with the same values, captions, recipe and picture.

    Raises:
        LoadError: if it is no such file, of another format, or damaged.

    Example:
        >>> import convscope as cs
        >>> heat = cs.cam(cs.load(), "sample:china", "class:church")
        >>> again = cs.load_result(heat.save("church.npz"))
        >>> again.values.equal(heat.values), again.recipe == heat.recipe
        (True, True)
    """
    return unpack(Path(path), KINDS)
