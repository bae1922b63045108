"""Whether a network reads the values of its picture in Python, as to choose a way by them.

`if score.max() > 0.9: return early` decides for a whole batch. Beside every pass through torch's functions
goes the knowledge which tensors come from the picture:

    a = body(x)          from the picture
    m = a.max() > 0.9    from the picture
    if m: ...            read: Python goes one way for all images
"""

from __future__ import annotations

from typing import Any

from torch import Tensor
from torch.overrides import TorchFunctionMode
from torch.utils.weak import WeakIdKeyDictionary

from convscope.network.batch_rows import WEIGHTED, Counted, WeightedCall, picked_length
from convscope.tracing.output_activation import tensors_in

READS = frozenset(
    (
        *("__bool__", "__int__", "__float__", "__index__", "item", "tolist", "numpy"),
        *("is_nonzero", "equal", "allclose"),
    )
)
"""Functions that tell Python what a tensor holds."""
# What a check of the picture reads, which chooses no way.
_CHECKS = frozenset(("isnan", "isinf", "isfinite"))
WRITES = frozenset(("__setitem__", "copy_"))
"""Functions that write into their first argument, beside those whose result it is."""


class ValueReads(TorchFunctionMode):
    """Watches the pass that is run while it is entered.

    Attributes:
        detected: whether values that come from the picture were read.
        weighted: its convolutions and linear layers.
        picked: the lengths of the first axes along which values from the picture were picked; see
            `batch_rows`.
    """

    def __init__(self, picture: Tensor) -> None:
        """Take the input of the pass."""
        super().__init__()
        self.detected = False
        self.weighted: list[WeightedCall] = []
        self.picked: list[int] = []
        self._counted = Counted()
        self._from_picture = WeakIdKeyDictionary({picture: True})

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Call the function, and note what its result comes from."""
        name, kwargs = getattr(func, "__name__", ""), kwargs or {}
        comes_from = any(one in self._from_picture for one in tensors_in((*args, *kwargs.values())))
        result = func(*args, **kwargs)
        length = picked_length(name, args, kwargs, result, self._counted) if comes_from else None
        self.picked += [] if length is None else [length]
        if name in WEIGHTED and isinstance(result, Tensor):
            self.weighted.append(WeightedCall.of(result))
        self._counted.follow(name, args, result)
        if comes_from and name in READS:
            self.detected = True
        elif comes_from and name not in _CHECKS:
            written = args[:1] if name in WRITES else ()
            for value in tensors_in((result, *written)):
                self._from_picture[value] = True
        return result
