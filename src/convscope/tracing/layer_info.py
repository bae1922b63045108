"""One row of the table of layers."""

from __future__ import annotations

import re
from dataclasses import dataclass

from torch import nn

from convscope.tracing.capture import computes_weight
from convscope.tracing.placement import Axis
from convscope.tracing.receptive_field import ReceptiveField
from convscope.tracing.trace import Call, Run

PerAxis = float | tuple[float, float] | None
_FEATURES_INDEX = re.compile(r"(?:^|\.)features\.(\d+)$")
_KIND_BY_CLASS_NAME: tuple[tuple[str, str], ...] = (
    ("Conv", "conv"),
    ("Norm", "norm"),
    ("Pool", "pool"),
    ("Linear", "linear"),
    ("Dropout", "dropout"),
    ("Flatten", "flatten"),
)


@dataclass(frozen=True)
class LayerInfo:
    """One row of the table of layers.

    Attributes:
        address: the shortest way to name it.
        name: the module's name; `name#run`, `act:k` or `pool:k` for a value that no module's
            last run returns.
        kind: conv, norm, act, pool, linear, dropout, flatten, block, or the module's class.
        conv: number of the convolution from 1, in the order in which they run.
        stage: number of the convolution or pooling from 1 whose value, after norm and
            activation, this is.
        index: i of `features.i`.
        shape: of the output for one image, without the batch.
        receptive_field: pixels that one cell sees, (rows, columns) where these differ; None
            where it is the whole image or unknown.
        stride: pixels between neighbouring cells, likewise; None where it is unknown.
        offset: pixel at the centre of cell 0, likewise.
        parameters: number of weights and biases; of a block, of all modules in it.
        calls: how often it runs in one pass.
        local: pixels that one cell sees without norms over space and other means of the whole
            map, where these let it see all; None elsewhere.
        whole: what lets it see all then, in words.

    Example:
        >>> import convscope as cs
        >>> layer = cs.load().layers.find("conv:3")
        >>> layer.name, layer.kind, layer.shape
        ('features.5', 'conv', (96, 36, 36))
        >>> layer.receptive_field, layer.stride  # in pixels of the photograph
        (25, 4)
    """

    address: str
    name: str
    kind: str
    conv: int | None
    stage: int | None
    index: int | None
    shape: tuple[int, ...]
    receptive_field: PerAxis
    stride: PerAxis
    offset: PerAxis
    parameters: int
    calls: int
    local: PerAxis = None
    whole: str = ""

    @property
    def sees(self) -> str:
        """The receptive field in words; "" where it is the whole image or unknown.

        >>> import convscope as cs
        >>> cs.load().layers.find("conv:3").sees
        '25'
        """
        if self.local is not None:
            y, x = self.local if isinstance(self.local, tuple) else (self.local, self.local)
            return f"local {y:g} x {x:g}; {self.whole}"
        return format_number(self.receptive_field)


def has_children(module: nn.Module) -> bool:
    """Whether a module contains other layers."""
    return any(not computes_weight(name, child) for name, child in module.named_children())


def module_info(run: Run, conv: int | None, stage: int | None) -> LayerInfo:
    """The row of a module, by its last run."""
    index = _FEATURES_INDEX.search(run.name)
    address = f"conv:{conv}" if conv else f"stage:{stage}" if stage else run.name
    return LayerInfo(
        address,
        run.name,
        _kind(run.module),
        conv,
        stage,
        int(index.group(1)) if index else None,
        run.shape,
        *_receptive_field_columns(run.field),
        sum(p.numel() for p in run.module.parameters()),
        run.number,
        *_local_columns(run.field),
    )


def function_info(value: Run | Call, name: str, stage: int | None) -> LayerInfo:
    """The row of a value that no module's last run returns."""
    kind = value.kind if isinstance(value, Call) else _kind(value.module)
    address = f"stage:{stage}" if stage else name
    receptive_field, local = _receptive_field_columns(value.field), _local_columns(value.field)
    return LayerInfo(
        address, name, kind, None, stage, None, value.shape, *receptive_field, 0, 1, *local
    )


def _kind(module: nn.Module) -> str:
    if has_children(module) and not isinstance(module, nn.Conv2d | nn.Linear):
        return "block"
    name = type(module).__name__
    if type(module).__module__ == "torch.nn.modules.activation":
        return "act"
    return next((kind for part, kind in _KIND_BY_CLASS_NAME if part in name), name)


def _receptive_field_columns(field: ReceptiveField | None) -> tuple[PerAxis, PerAxis, PerAxis]:
    if field is None:
        return None, None, None
    local = field.local if field.local and field.local.is_known else None
    return (
        _per_axis(field.y, field.x, "size") if field.y and field.x else None,
        _per_axis(local.y, local.x, "stride") if local else None,
        _per_axis(local.y, local.x, "offset") if local else None,
    )


def _local_columns(field: ReceptiveField | None) -> tuple[PerAxis, str]:
    """What a cell sees without what lets it see all, and that; None, "" where nothing does."""
    is_whole = field is not None and (field.y is None or field.x is None)
    local = field.local if field and is_whole else None
    if local is None or not local.is_known or local.sees_all or not (field and field.whole):
        return None, ""
    return _per_axis(local.y, local.x, "size"), field.whole


def format_number(value: PerAxis | tuple[int, ...]) -> str:
    """A number of a row, or several, as text."""
    if value is None:
        return ""
    return "x".join(f"{v:g}" for v in (value if isinstance(value, tuple) else (value,)))


def _per_axis(y: Axis, x: Axis, attribute: str) -> PerAxis:
    first, second = _int_if_whole(getattr(y, attribute)), _int_if_whole(getattr(x, attribute))
    return first if first == second else (first, second)


def _int_if_whole(value: float) -> float:
    """A whole number as an int, for a table that reads well."""
    return int(value) if value == int(value) else value
