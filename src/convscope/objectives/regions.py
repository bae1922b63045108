"""Questions about a part of a photograph: a segment of a segmentation, a box of a detector."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from convscope.errors import NotApplicableError, TargetError
from convscope.objectives.activations import OUTPUT, Acts, class_number, in_range, whole_number
from convscope.objectives.objective import FrozenTensor, Objective
from convscope.objectives.outputs import Detections


def segment(c: int | str, mask: Tensor | None = None) -> Objective:
    """Mean score of a class over a part of a segmentation, (N, K, H, W).

    Methods that change the photograph keep to the part that belongs to it unchanged.

    Args:
        c: the class, by number or by name.
        mask: (H, W) or (N, H, W), true where to look; None: where the class is predicted.

    Example:
        >>> import convscope as cs
        >>> import torch
        >>> segmentation = torch.nn.Conv2d(3, 2, 1)  # two scores for each pixel
        >>> net = cs.load(segmentation, mean=0.5, std=0.25, size=96, labels=["sky", "ground"])
        >>> upper = torch.zeros(96, 96, dtype=torch.bool)
        >>> upper[:48] = True
        >>> net.score(cs.segment("sky", upper), "sample:china").shape
        torch.Size([1])
    """
    c = c if isinstance(c, str) else int(whole_number(c))
    frozen = None if mask is None else FrozenTensor.of(mask)
    each = mask is not None and mask.dim() == 3 and len(mask) > 1
    return Objective(
        f"segment:{c}",
        (OUTPUT,),
        SegmentScore(c, frozen),
        settle=SegmentAsPredicted(c) if mask is None else None,
        some=SegmentOfSome(c, frozen) if frozen and each else None,
        kind="segment",
    )


@dataclass(frozen=True)
class SegmentScore:
    """Mean score of a class where a mask is true, or where the class is predicted."""

    c: int | str
    mask: FrozenTensor | None

    def __call__(self, acts: Acts) -> Tensor:
        """Activations -> (N,)."""
        output = _segmentation(acts)
        where = self.mask.value.to(output.device).bool() if self.mask else _answered(acts, self.c)
        part = _fitting(where, output)
        size = part.flatten(1).sum(1)
        if not bool((size > 0).all()):
            msg = f"No pixel is taken for class {self.c!r}; give a mask to look at another part."
            raise TargetError(msg)
        own = output[:, in_range(class_number(self.c, acts.labels), output.shape[1])]
        return (own * part).flatten(1).sum(1) / size


@dataclass(frozen=True)
class SegmentAsPredicted:
    """The segment that belongs to a photograph unchanged."""

    c: int | str

    def __call__(self, acts: Acts) -> Objective:
        """Activations of one photograph -> its segment."""
        return segment(self.c, _answered(acts, self.c))


@dataclass(frozen=True)
class SegmentOfSome:
    """The segments of some photographs of a batch that has a mask for each."""

    c: int | str
    masks: FrozenTensor

    def __call__(self, first: int, last: int) -> Objective:
        """First and last -> their segments."""
        return segment(self.c, self.masks.value[first:last])


def _segmentation(acts: Acts) -> Tensor:
    """The network's scores as (N, K, H, W)."""
    output = acts[OUTPUT]
    if output.dim() != 4:
        msg = f"A segmentation gives (N, K, H, W), but this network returns {tuple(output.shape)}."
        raise TargetError(msg)
    return output


def _answered(acts: Acts, c: int | str) -> Tensor:
    """Where a segmentation predicts a class, (N, H, W)."""
    output = _segmentation(acts)
    return output.argmax(1) == in_range(class_number(c, acts.labels), output.shape[1])


def _fitting(mask: Tensor, output: Tensor) -> Tensor:
    """A mask as (N, H, W) for an output (N, K, H, W)."""
    if mask.shape[-2:] != output.shape[-2:]:
        msg = f"The mask has {tuple(mask.shape[-2:])} cells, the segmentation {tuple(output.shape[-2:])}."
        raise TargetError(msg)
    if mask.dim() == 3 and len(mask) not in (1, len(output)):
        msg = (
            f"There are {len(mask)} masks for {len(output)} photographs; give one for all, or one "
            "for each."
        )
        raise TargetError(msg)
    return mask.expand(len(output), -1, -1)


def box(k: int = 0) -> Objective:
    """Score of the `k`-th box (from 0, the surest first) that a detector of torchvision finds.

    Where a method changes the photograph, it is the score of the box of the same class that
    overlaps most with this one (intersection over union); 0 where none does.

    Example:
        >>> from torchvision.models.detection import ssdlite320_mobilenet_v3_large as detector
        >>> import convscope as cs
        >>> net = cs.load(detector(weights_backbone=None), mean=0.0, std=1.0, size=320)
        >>> net.score(cs.box(0), "sample:china").shape
        torch.Size([1])
    """
    k = int(whole_number(k))
    return Objective(f"box:{k}", (OUTPUT,), BoxScore(k), settle=BoxAsFound(k), kind="box")


@dataclass(frozen=True)
class BoxScore:
    """Score of the `k`-th box."""

    k: int

    def __call__(self, acts: Acts) -> Tensor:
        """Activations -> (N,)."""
        return _with_box(acts, self.k)[:, self.k, 0]


@dataclass(frozen=True)
class BoxAsFound:
    """The `k`-th box of a photograph unchanged."""

    k: int

    def __call__(self, acts: Acts) -> Objective:
        """Activations of one photograph -> the box that overlaps most with its `k`-th."""
        sought = FrozenTensor.of(_with_box(acts, self.k)[0, self.k])
        return Objective(f"box:{self.k}", (OUTPUT,), BoxNear(sought), kind="box")


@dataclass(frozen=True)
class BoxNear:
    """Score of the detection that overlaps most with a row of `Detections`."""

    row: FrozenTensor

    def __call__(self, acts: Acts) -> Tensor:
        """Activations -> (N,)."""
        from torchvision.ops import box_iou

        found, sought = _detections(acts), self.row.value
        if not found.shape[1]:
            return found.sum((1, 2))
        own, same = sought.to(found), found[..., 5] == sought[5].to(found)
        overlap = box_iou(found[..., 1:5].flatten(0, 1), own[None, 1:5]).view(same.shape) * same
        best, place = overlap.max(1)
        return found[..., 0].gather(1, place[:, None])[:, 0] * (best > 0)


def _detections(acts: Acts) -> Tensor:
    found = acts[OUTPUT]
    if not isinstance(found, Detections):
        msg = (
            "This network is no detector whose boxes are known, so there is no box to explain; "
            "ask about a class, as class:0."
        )
        raise NotApplicableError(msg)
    return found.as_subclass(Tensor)


def _with_box(acts: Acts, k: int) -> Tensor:
    """The detections, where every photograph has so many."""
    found = _detections(acts)
    counts = (found[..., 0] > 0).sum(1)
    if not bool((counts > 0).all()):
        msg = (
            f"Nothing was detected in photograph {int(counts.argmin())}, so there is no box to "
            "explain; another photograph or a lower score threshold of the detector may help."
        )
        raise NotApplicableError(msg)
    if k >= int(counts.min()):
        msg = f"There is no box {k} in every photograph; box:0 is the surest."
        raise TargetError(msg)
    return found
