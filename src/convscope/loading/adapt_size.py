"""Bring a transformer whose positions are learnt to pictures of another size."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from torch import nn

from convscope.errors import LoadError

if TYPE_CHECKING:
    from torchvision.models import VisionTransformer

_POSITIONS = "pos_embedding"


def adapt_size(module: nn.Module, name: str, size: tuple[int, int]) -> None:
    """Change `module` so that it takes pictures of `size`, where its positions forbid others.

    Positions are interpolated as the libraries do it, bicubically: timm's networks do so themselves,
    torchvision's vision transformers by its `interpolate_embeddings`. Networks that take any size
    stay as they are.

    Args:
        module: made for this purpose; a user's own module is not changed.
        name: for the message.
        size: (height, width).

    Raises:
        LoadError: if the network cannot take this size.
    """
    from torchvision.models import VisionTransformer

    own: Any = module
    if isinstance(module, VisionTransformer):
        _adapt_torchvision(module, name, size)
    elif hasattr(module, "set_input_size"):
        try:
            own.set_input_size(img_size=size)
        except (AssertionError, RuntimeError, ValueError, TypeError) as error:
            raise LoadError(_refusal(name, size, str(error))) from None


def _adapt_torchvision(module: VisionTransformer, name: str, size: tuple[int, int]) -> None:
    from torchvision.models.vision_transformer import interpolate_embeddings

    side, patch = size[0], module.patch_size
    if size != (side, side) or side % patch:
        reason = f"it takes squares whose side is a multiple of {patch}"
        raise LoadError(_refusal(name, size, reason))
    encoder: Any = module.encoder
    state = {f"encoder.{_POSITIONS}": getattr(encoder, _POSITIONS).detach()}
    resized = interpolate_embeddings(side, patch, state)[f"encoder.{_POSITIONS}"]
    setattr(encoder, _POSITIONS, nn.Parameter(resized))
    module.image_size, module.seq_length = side, resized.shape[1]


def _refusal(name: str, size: tuple[int, int], reason: str) -> str:
    height, width = size
    return f"{name} cannot be brought to pictures of {height} by {width} pixels ({reason}); leave size out, or give another."
