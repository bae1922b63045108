"""Every method by name, for the command line, the app, the documentation and the tests."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from types import MappingProxyType
from typing import Any

from torch import Tensor

from convscope.attribution.cam import CAMS, PERTURBATION_CAMS, cam
from convscope.attribution.occlusion import occlusion
from convscope.attribution.pixels import SALIENCIES, saliency
from convscope.attribution.rise import rise
from convscope.documented_mapping import DocumentedMapping
from convscope.results import Result
from convscope.synthesis.adversarial import adversarial
from convscope.synthesis.dream import dream
from convscope.synthesis.invert import caricature, invert
from convscope.synthesis.presets import PRESETS
from convscope.synthesis.synthesize import synthesize
from convscope.view.filters import filters
from convscope.view.maps import channel_across_layers, maps
from convscope.view.predict import predict


@dataclass(frozen=True)
class Method:
    """One method of the catalogue.

    Attributes:
        name: how it is called.
        family: the mechanism it belongs to.
        run: `run(net, images, objective, **parameters)`; what a method does not use it ignores.
        parameters: name -> default of its options.
        source: authors, year and where it was published.

    Example:
        >>> import convscope as cs
        >>> method = cs.CATALOG["layercam"]
        >>> method.family, method.source
        ('cam', 'Jiang et al. 2021, doi:10.1109/TIP.2021.3089943')
        >>> method.parameters["layer"] is None
        True
        >>> method.run(cs.load(), "sample:china", "class:church", layer="stage:3").values.shape
        torch.Size([1, 36, 36])
    """

    name: str
    family: str
    run: Callable[..., Result]
    parameters: Mapping[str, Any]
    source: str


_SOURCES = {
    "cam": "Zhou et al. 2016, arXiv:1512.04150",
    "gradcam": "Selvaraju et al. 2017, arXiv:1610.02391",
    "gradcam++": "Chattopadhay et al. 2018, arXiv:1710.11063",
    "xgradcam": "Fu et al. 2020, arXiv:2008.02312",
    "hirescam": "Draelos & Carin 2020, arXiv:2011.08891",
    "layercam": "Jiang et al. 2021, doi:10.1109/TIP.2021.3089943",
    "eigencam": "Muhammad & Yeasin 2020, arXiv:2008.00299",
    "eigengradcam": "Muhammad & Yeasin 2020, arXiv:2008.00299, of gradient times activation",
    "fullgrad": "Srinivas & Fleuret 2019, arXiv:1905.00780",
    "finercam": "Zhang et al. 2025, arXiv:2501.11309",
    "scorecam": "Wang et al. 2020, arXiv:1910.01279",
    "ablationcam": "Desai & Ramaswamy 2020, doi:10.1109/WACV45572.2020.9093360",
    "gradient": "Simonyan et al. 2014, arXiv:1312.6034",
    "inputxgradient": "Shrikumar et al. 2016, arXiv:1605.01713",
    "smoothgrad": "Smilkov et al. 2017, arXiv:1706.03825",
    "vargrad": "Adebayo et al. 2018, arXiv:1810.03292",
    "integrated": "Sundararajan et al. 2017, arXiv:1703.01365",
    "guided": "Springenberg et al. 2015, arXiv:1412.6806",
    "deconvnet": "Zeiler & Fergus 2014, arXiv:1311.2901",
    "guidedgradcam": "Selvaraju et al. 2017, arXiv:1610.02391",
}


_MORDVINTSEV = "Mordvintsev et al. 2015, research.google/blog: inceptionism"
_MAHENDRAN = "Mahendran & Vedaldi 2015, arXiv:1412.0035"
_OLAH = "Olah et al. 2018, doi:10.23915/distill.00010"
_MOOSAVI = "Moosavi-Dezfooli et al. 2016, arXiv:1511.04599"


def _options(run: Callable[..., Any], *without: str) -> Mapping[str, Any]:
    """Named options of a function and their defaults."""
    found = inspect.signature(run).parameters.values()
    without = (*without, "progress", "should_stop")
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


def _made_for(run: Callable[..., Result]) -> Callable[..., Result]:
    return lambda net, _images=None, objective=None, **options: run(net, objective, **options)


def _one_photograph(run: Callable[..., Result]) -> Callable[..., Result]:
    """Of a batch the first; these make a picture of one."""

    def with_photograph(net: Any, images: Any, objective: Any = None, **options: Any) -> Result:
        one = images[:1] if isinstance(images, Tensor) and images.dim() == 4 else images
        return run(net, one, objective, **options)

    return with_photograph


def _synthesis() -> list[Method]:
    """What makes pictures; `target` of the last is the class."""
    made = [
        Method(
            name,
            "synthesis",
            _made_for(partial(synthesize, preset=name)),
            {**_options(synthesize, "preset", "count"), "steps": plan.steps, "size": plan.size},
            plan.source,
        )
        for name, plan in PRESETS.items()
    ]
    of_photographs = [
        Method("dream", "synthesis", _one_photograph(dream), _options(dream), _MORDVINTSEV),
        Method(
            "invert", "synthesis", _one_photograph(_of_images(invert)), _options(invert), _MAHENDRAN
        ),
        Method(
            "caricature",
            "synthesis",
            _one_photograph(_layer_first(caricature)),
            {"layer": "stage:1", **_options(caricature)},
            _OLAH,
        ),
        Method(
            "adversarial",
            "synthesis",
            _one_photograph(_to_class(adversarial)),
            {"target": 0, **_options(adversarial)},
            _MOOSAVI,
        ),
    ]
    return [*made, *of_photographs]


def _to_class(run: Callable[..., Result]) -> Callable[..., Result]:
    def with_class(
        net: Any, images: Any, _objective: Any = None, *, target: int | str, **options: Any
    ) -> Result:
        return run(net, images, target, **options)

    return with_class


def _entries() -> list[Method]:
    zeiler = "Zeiler & Fergus 2014, arXiv:1311.2901"
    alex = "Krizhevsky et al. 2012, doi:10.1145/3065386"
    view = [
        Method("predict", "view", _of_images(predict), _options(predict), ""),
        Method(
            "filters", "view", _of_weights(filters), {"layer": "conv:1", **_options(filters)}, alex
        ),
        Method("maps", "view", _layer_first(maps), {"layer": "stage:1", **_options(maps)}, zeiler),
        Method(
            "channel_across_layers",
            "view",
            _channel_first(channel_across_layers),
            {"channel": 0, **_options(channel_across_layers)},
            "",
        ),
    ]
    cams = [
        Method(name, "cam", partial(cam, method=name), _options(cam, "method"), _SOURCES[name])
        for name in (*CAMS, *PERTURBATION_CAMS)
    ]
    pixels = [
        Method(
            name,
            "pixels",
            partial(saliency, method=name),
            _options(saliency, "method"),
            _SOURCES[name],
        )
        for name in SALIENCIES
    ]
    masks = [
        Method("occlusion", "masks", occlusion, _options(occlusion), zeiler),
        Method("rise", "masks", rise, _options(rise), "Petsiuk et al. 2018, arXiv:1806.07421"),
    ]
    return [*view, *cams, *pixels, *masks, *_synthesis()]


CATALOG: Mapping[str, Method] = DocumentedMapping(
    {entry.name: entry for entry in _entries()},
    """Every method by name: what to run, its options with their defaults, and its source.

    Example:
        >>> import convscope as cs
        >>> [name for name, method in cs.CATALOG.items() if method.family == "masks"]
        ['occlusion', 'rise']
        >>> cs.CATALOG["gradcam"].source
        'Selvaraju et al. 2017, arXiv:1610.02391'
        >>> cs.CATALOG["gradcam"].run(cs.load(), "sample:china", "class:church").values.shape
        torch.Size([1, 9, 9])
    """,
)
