"""The answers: frozen data with the recipe that made it, which can draw, save and show itself."""

from convscope.results.base import Result, save_picture
from convscope.results.chart import Chart
from convscope.results.colour_scale import POINTS, ColourScale
from convscope.results.film import Film
from convscope.results.findings import Findings, SideBySide
from convscope.results.heatmap import CLIP, FLAT, NO_EVIDENCE, Heatmap
from convscope.results.pictures import Pictures, Strip
from convscope.results.recipe import Recipe, recipe_for
from convscope.results.table import Cell, Table, format_cell

__all__ = [
    "CLIP",
    "FLAT",
    "NO_EVIDENCE",
    "POINTS",
    "Cell",
    "Chart",
    "ColourScale",
    "Film",
    "Findings",
    "Heatmap",
    "Pictures",
    "Recipe",
    "Result",
    "SideBySide",
    "Strip",
    "Table",
    "format_cell",
    "recipe_for",
    "save_picture",
]
