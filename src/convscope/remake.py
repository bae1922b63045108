"""Computing a result again from the recipe in its own file."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path
from typing import Any, NoReturn

from PIL import Image

from convscope.attribution.cam import CAMS, PERTURBATION_CAMS, cam, cam_across_layers
from convscope.attribution.formulas import FORMULAS
from convscope.attribution.occlusion import occlusion
from convscope.attribution.pixels import SALIENCIES, deconv, saliency
from convscope.attribution.rise import rise
from convscope.errors import ArgumentError, ConvscopeError, LoadError, TargetError, printable
from convscope.images.read import Images, Source
from convscope.loading.load import load
from convscope.network.network import Network
from convscope.network.takes_network import takes_network
from convscope.objectives.makers import Objective, as_objective, parse
from convscope.results import Heatmap, Pictures, Recipe, Result
from convscope.results.base import recipe_text_in
from convscope.results.recipe import preprocess_of
from convscope.saved_results import load_result
from convscope.synthesis.adversarial import adversarial, fooling_image
from convscope.synthesis.dream import DreamConfig, dream, dream_zoom
from convscope.synthesis.invert import caricature, invert
from convscope.synthesis.presets import PRESETS, Preset
from convscope.synthesis.synthesize import (
    synthesize,
    synthesize_across_layers,
    synthesize_diverse,
)
from convscope.synthesis.timelapse import timelapse
from convscope.view.duplicates import duplicates
from convscope.view.filters import filter_table, filters
from convscope.view.maps import channel_across_layers, convolution_chain, maps
from convscope.view.predict import predict
from convscope.view.table import layer_table

_MEASURED = frozenset(
    {
        "threads",
        "algorithm",
        "note",
        "completeness_gap",
        "probability",
        "l2",
        "largest",
        "mean",
        "times",
    }
)
"""Parameters that a run tells of itself; another machine may tell others."""


@takes_network
def redo(
    path: str | Path,
    *,
    net: Network | None = None,
    images: Images | None = None,
    objective: Objective | str | int | None = None,
    preset: Preset | None = None,
    guide: Source | None = None,
) -> Result:
    """Compute a result again from its own file: the same numbers, bit for bit on the same machine.

    The file names the network, the objective, all parameters and the seed. A network that
    `load` knows by name is loaded and its weights are compared; an .npz of a heat map holds its
    photographs. What the file does not hold must be given, and the error says what.

    Args:
        path: an .npz, .png, .jpg or .webp that `save` wrote.
        net: the network, where it has no name that can be loaded, or weights of its own. A
            `package.module:function` is never imported because a file says so.
        images: the photographs, where the file does not hold them.
        objective: where its words cannot be read back, as of one's own.
        preset: where it is one's own.
        guide: the guide of a dream.

    Returns:
        The result, whose recipe is that of the file.

    Raises:
        LoadError: if the file holds no recipe, or one that cannot be followed.
        ArgumentError: if something must be given, or what is given is not what the file names.

    Example:
        >>> import convscope as cs
        >>> heat = cs.cam(cs.load(), "sample:china", "class:church")
        >>> cs.redo(heat.save("church.npz")).values.equal(heat.values)
        True
    """
    path = Path(path)
    shown = printable(path.name)
    saved = load_result(path) if path.suffix.lower() == ".npz" else None
    recipe = saved.recipe if saved else _recipe_in_picture(path)
    make = MAKERS.get(recipe.method)
    if make is None:
        msg = f"{shown} was made by {recipe.method!r}, which redo cannot make again; it can make {', '.join(MAKERS)}."
        raise ArgumentError(msg)
    if images is None and isinstance(saved, Heatmap | Pictures):
        images = saved.images
    network = _network(recipe, net, shown)
    request = _Request(recipe, network, shown, images, objective, preset, guide)
    try:
        result = make(request)
        if "resized" in recipe.parameters and isinstance(result, Heatmap):
            result = result.resized(tuple(recipe.parameters["resized"]))
    except ConvscopeError:
        raise
    except (TypeError, ValueError, KeyError, AttributeError) as error:
        msg = f"The recipe in {shown} cannot be followed ({type(error).__name__}: {error})."
        raise LoadError(msg) from error
    _check_same(recipe, result.recipe, shown)
    return result


@dataclass(frozen=True)
class _Request:
    """What the file says, and what was given for what it does not say."""

    recipe: Recipe
    net: Network
    shown: str
    given_images: Images | None
    given_objective: Objective | str | int | None
    given_preset: Preset | None
    guide: Source | None

    @property
    def images(self) -> Images:
        """The photographs."""
        if self.given_images is None:
            self.ask_for("the photographs it was made of", "images")
        return self.given_images

    @property
    def photograph(self) -> Source:
        """The photograph, where there is one."""
        images = self.images
        if isinstance(images, Sequence) and not isinstance(images, str | bytes):
            msg = f"{self.shown} was made of one photograph; give it alone, not in a list."
            raise ArgumentError(msg)
        return images

    def ask_for(self, what: str, name: str) -> NoReturn:
        """Say what must be given.

        Raises:
            ArgumentError: always.
        """
        msg = f"{self.shown} does not hold {what}: give it, as in redo({self.shown!r}, {name}=...)."
        raise ArgumentError(msg)

    def some(self, *names: str) -> dict[str, Any]:
        """Parameters of the recipe; pairs come as lists out of JSON."""
        known = {**self.recipe.parameters, "seed": self.recipe.seed}
        return {
            name: tuple(known[name]) if isinstance(known[name], list) else known[name]
            for name in names
            if known.get(name) is not None
        }

    @property
    def objective(self) -> Objective:
        """The objective that the recipe's words mean."""
        return self.objective_of(str(self.recipe.objective))

    def objective_of(self, label: str) -> Objective:
        """The objective of a label, if it can be read back or was given."""
        if self.given_objective is not None:
            given = as_objective(self.given_objective)
            if given.label != label:
                msg = f"{self.shown} was made for {label!r}, not for {given.label!r}."
                raise ArgumentError(msg)
            return given
        try:
            result = parse(label)
        except TargetError:
            result = None
        known = {"input", "output", *self.net.layers.addresses}
        if result is None or result.label != label or not known.issuperset(result.layers):
            self.ask_for(f"its objective, only its label {label!r}", "objective")
        return result

    @property
    def preset(self) -> str | Preset:
        """The preset by its name, unless it was one's own or changed."""
        if self.given_preset is not None:
            return self.given_preset
        name = self.recipe.parameters["preset"]
        told = {item.name for item in fields(Preset)} - {"steps", "size"}
        if name not in PRESETS or told & set(self.recipe.parameters):
            self.ask_for(f"its preset, which is one of your own called {name!r}", "preset")
        return str(name)


def _recipe_in_picture(path: Path) -> Recipe:
    """The recipe in a picture.

    Raises:
        LoadError: if there is none.
    """
    shown = printable(path.name)
    if not path.is_file():
        msg = f"There is no file {printable(str(path))}."
        raise LoadError(msg)
    try:
        with Image.open(path, formats=["PNG", "JPEG", "WEBP"]) as picture:
            return Recipe.from_json(recipe_text_in(picture) or "")
    except (
        OSError,
        ValueError,
        KeyError,
        TypeError,
        SyntaxError,
    ):  # SyntaxError: Pillow's, of broken chunks
        msg = f"{shown} holds no recipe; .npz, .png, .jpg and .webp files that a result's save wrote do."
        raise LoadError(msg) from None


def _network(recipe: Recipe, net: Network | None, shown: str) -> Network:
    """The network that was given or named, if it is the one of the recipe.

    Raises:
        ArgumentError: if it is another one, or must be given.
    """
    give = f"give it, as in redo({shown!r}, net=...)"
    if net is None:
        source, colon, _ = recipe.network.partition(":")
        if colon and source not in ("torchvision", "timm"):
            msg = f"{shown} was made with {recipe.network!r}, which is not imported because a file says so: {give}."
            raise ArgumentError(msg)
        try:
            net = load(recipe.network)
        except LoadError as error:
            msg = f"{shown} was made with a network {recipe.network!r} that cannot be loaded by this name ({error}): {give}."
            raise ArgumentError(msg) from None
    if net.fingerprint != recipe.fingerprint:
        msg = f"{shown} was made with other weights (fingerprint {recipe.fingerprint}) than {net.name} has ({net.fingerprint}): load those weights and {give}."
        raise ArgumentError(msg)
    if recipe.preprocess not in (None, preprocess_of(net)):
        msg = f"{shown} was made with pixels preprocessed by {recipe.preprocess}, but {net.name} has {preprocess_of(net)}: load it with that mean and std and {give}."
        raise ArgumentError(msg)
    return net


def _check_same(old: Recipe, new: Recipe, shown: str) -> None:
    """Refuse a result whose recipe is not that of the file: it would be another one.

    Raises:
        ArgumentError: if anything differs but what a run measures.
    """
    before, after = (_comparable(recipe) for recipe in (old, new))
    other = [name for name in {**before, **after} if before.get(name) != after.get(name)]
    if old.scores and new.scores and old.scores != new.scores:
        msg = f"{shown} was made with other probabilities ({old.scores} Now: {new.scores}): load the network with the same probabilities= and give it, as in redo({shown!r}, net=...)"
        raise ArgumentError(msg)
    if "photograph" in other:
        msg = f"{shown} was made of another photograph than the one given; their digests are {before.get('photograph')} and {after.get('photograph')}."
        raise ArgumentError(msg)
    if other:
        said = ", ".join(f"{n}: {before.get(n)!r}, now {after.get(n)!r}" for n in other)
        msg = (
            f"{shown} cannot be made again from its recipe alone; the new result differs in {said}."
        )
        raise ArgumentError(msg)


def _comparable(recipe: Recipe) -> dict[str, Any]:
    """What two recipes of one result share on all machines."""
    plain = json.loads(replace(recipe, versions={}).json())
    own = {k: v for k, v in plain["parameters"].items() if k not in _MEASURED}
    return {**own, **{name: plain[name] for name in ("method", "objective", "seed")}}


def _cam(method: str) -> Callable[[_Request], Result]:
    def make(request: _Request) -> Result:
        layer = request.recipe.parameters["layer"]
        where = None if method == "fullgrad" else layer.split(" + ")
        options = request.some("precision")
        return cam(
            request.net, request.images, request.objective, method=method, layer=where, **options
        )

    return make


def _cam_across_layers(method: str) -> Callable[[_Request], Result]:
    return lambda r: cam_across_layers(
        r.net, r.images, r.objective, method=method, **r.some("layers")
    )


def _saliency(method: str) -> Callable[[_Request], Result]:
    return lambda r: saliency(
        r.net, r.images, r.objective, method=method, **r.some("samples", "seed")
    )


def _occlusion(request: _Request) -> Result:
    options = request.some("window", "stride", "fill", "reduce", "precision", "seed")
    return occlusion(request.net, request.images, request.objective, **options)


def _rise(request: _Request) -> Result:
    """The words of a class ask for its probability; the objective itself is taken as it is."""
    by_itself = request.recipe.parameters["scored"] == "by itself"
    requested = request.objective if by_itself else str(request.recipe.objective)
    return rise(
        request.net, request.images, requested, **request.some("masks", "cells", "keep", "seed")
    )


def _synthesized(request: _Request) -> Result:
    options = {**request.some("size", "steps", "seed", "precision"), "preset": request.preset}
    known: Mapping[str, Any] = request.recipe.parameters
    if "across" in known:
        return synthesize_across_layers(
            request.net, known["across"], layers=known["layers"], **options
        )
    if "diversity" in known:
        count, weight = known["count"], known["diversity"]
        return synthesize_diverse(request.net, request.objective, count, weight=weight, **options)
    if "objectives" in known:
        every = [request.objective_of(label) for label in known["objectives"]]
        return synthesize(request.net, every, **options)
    return synthesize(request.net, request.objective, **options, **request.some("count"))


def _timelapse(request: _Request) -> Result:
    options = {**request.some("at", "size", "steps", "seed", "precision")}
    return timelapse(request.net, request.objective, preset=request.preset, **options)


def _dream(request: _Request) -> Result:
    label, known = str(request.recipe.objective), request.recipe.parameters
    kind, _, layer = label.rpartition(" ")
    if kind == "guided" and request.guide is None:
        request.ask_for("the guide of its dream", "guide")
    requested = layer if kind in ("energy of", "guided") else request.objective
    options = {
        "config": DreamConfig(**{name: known[name] for name in asdict(DreamConfig())}),
        **request.some("side", "seed", "precision"),
    }
    if request.recipe.method == "dream_zoom":
        more = {"frames": known["frames"], "rate": known["closer"]}
        return dream_zoom(request.net, request.photograph, requested, **options, **more)
    return dream(request.net, request.photograph, requested, guide=request.guide, **options)


def _inverted(request: _Request) -> Result:
    layers = str(request.recipe.objective).split(", ")
    options = request.some("steps", "seed", "precision")
    return invert(request.net, request.photograph, layers, **options)


def _caricature(request: _Request) -> Result:
    options = request.some("layer", "power", "steps", "seed", "precision")
    return caricature(request.net, request.photograph, **options)


def _class(request: _Request) -> int:
    return int(str(request.recipe.objective).removeprefix("class:"))


MAKERS: dict[str, Callable[[_Request], Result]] = {
    "predict": lambda r: predict(r.net, r.images, **r.some("top")),
    "filters": lambda r: filters(r.net, **r.some("layer", "inputs", "scale")),
    "filter_table": lambda r: filter_table(r.net, **r.some("layer")),
    "duplicates": lambda r: duplicates(r.net, **r.some("layer", "threshold")),
    "layer_table": lambda r: layer_table(r.net, **r.some("blocks")),
    "maps": lambda r: maps(r.net, r.images, **r.some("layer", "channels", "strongest")),
    "activation_map": lambda r: maps(
        r.net, r.images, r.recipe.parameters["layer"], channels=[r.recipe.parameters["channel"]]
    ).heatmap(0),
    "channel_across_layers": lambda r: channel_across_layers(
        r.net, r.images, r.recipe.parameters["channel"], **r.some("layers")
    ),
    "convolution_chain": lambda r: convolution_chain(
        r.net, r.images, r.recipe.parameters["channel"]
    ),
    **{name: _cam(name) for name in (*CAMS, *PERTURBATION_CAMS)},
    **{f"cam_across_layers, {name}": _cam_across_layers(name) for name in FORMULAS},
    **{name: _saliency(name) for name in SALIENCIES},
    "deconv": lambda r: deconv(r.net, r.images, r.objective, **r.some("only")),
    "occlusion": _occlusion,
    "rise": _rise,
    "synthesize": _synthesized,
    "timelapse": _timelapse,
    "dream": _dream,
    "dream_zoom": _dream,
    "invert": _inverted,
    "caricature": _caricature,
    "adversarial": lambda r: adversarial(r.net, r.photograph, _class(r)),
    "fooling_image": lambda r: fooling_image(r.net, _class(r), **r.some("certain", "seed")),
}
"""Method of a recipe -> how it is made again."""
