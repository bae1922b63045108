"""Every method by name: the command line, the app, the documentation and the tests read it."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from types import MappingProxyType
from typing import Any

from convscope.attribution.cam import CAMS, cam
from convscope.results import Result
from convscope.view.filters import filters
from convscope.view.maps import maps, through
from convscope.view.predict import predict


@dataclass(frozen=True)
class Method:
    """One method of the toolkit.

    Attributes:
        name: how it is called.
        family: the mechanism it belongs to.
        run: `run(net, images, objective, **parameters)`; what a method does not use it ignores.
        parameters: name -> default of its options.
        source: authors, year and where it was published.
    """

    name: str
    family: str
    run: Callable[..., Result]
    parameters: Mapping[str, Any]
    source: str


_SOURCES = {
    "gradcam": "Selvaraju et al. 2017, arXiv:1610.02391",
}


def _options(run: Callable[..., Any], *without: str) -> Mapping[str, Any]:
    """Named options of a function and their defaults."""
    found = inspect.signature(run).parameters.values()
    named = [p for p in found if p.kind is p.KEYWORD_ONLY and p.name not in without]
    return MappingProxyType({p.name: p.default for p in named})


def _of_images(run: Callable[..., Result]) -> Callable[..., Result]:
    return lambda net, images, _objective=None, **options: run(net, images, **options)


def _of_weights(run: Callable[..., Result]) -> Callable[..., Result]:
    return lambda net, _images=None, _objective=None, **options: run(net, **options)


def _layer_first(run: Callable[..., Result]) -> Callable[..., Result]:
    def with_layer(
        net: Any, images: Any, _objective: Any = None, *, layer: str, **options: Any
    ) -> Result:
        return run(net, images, layer, **options)

    return with_layer


def _channel_first(run: Callable[..., Result]) -> Callable[..., Result]:
    def with_channel(
        net: Any, images: Any, _objective: Any = None, *, channel: int, **options: Any
    ) -> Result:
        return run(net, images, channel, **options)

    return with_channel


def _entries() -> list[Method]:
    zeiler = "Zeiler & Fergus 2014, arXiv:1311.2901"
    alex = "Krizhevsky et al. 2012, doi:10.1145/3065386"
    view = [
        Method("predict", "view", _of_images(predict), _options(predict), ""),
        Method(
            "filters", "view", _of_weights(filters), {"layer": "conv:1", **_options(filters)}, alex
        ),
        Method("maps", "view", _layer_first(maps), {"layer": "stage:1", **_options(maps)}, zeiler),
        Method("through", "view", _channel_first(through), {"channel": 0, **_options(through)}, ""),
    ]
    cams = [
        Method(name, "cam", partial(cam, method=name), _options(cam, "method"), _SOURCES[name])
        for name in CAMS
    ]
    return [*view, *cams]


CATALOG: Mapping[str, Method] = MappingProxyType({entry.name: entry for entry in _entries()})
