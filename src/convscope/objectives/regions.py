"""Objectives of a part of a photograph: a segment of a segmentation, a box of a detector."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from convscope.errors import NotApplicableError, TargetError
from convscope.objectives.activations import (
    OUTPUT,
    Activations,
    check_class_id,
    find_class_id,
    to_integer,
)
from convscope.objectives.objective import FrozenTensor, Objective
from convscope.objectives.outputs import Detections
from convscope.objectives.scores import Scores


def segment(class_id: int | str, mask: Tensor | None = None) -> Objective:
    """Mean score of a class over a part of a segmentation, (N, K, H, W).

    Methods that change the photograph keep to the part that belongs to it unchanged.

    Args:
        class_id: the class, by number or by name.
        mask: (H, W) or (N, H, W), true where to look; None: where the class is predicted.

    Returns:
        An objective of kind "segment" that reads (N,) means.

    Raises:
        TargetError: if `c` is neither a whole number nor a name; when it is read, if the network is
            no segmentation, has no such class, predicts it nowhere, or the mask is of another size.

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
    class_id = class_id if isinstance(class_id, str) else int(to_integer(class_id))
    frozen = None if mask is None else FrozenTensor.of(mask)
    one_per_image = mask is not None and mask.dim() == 3 and len(mask) > 1
    return Objective(
        f"segment:{class_id}",
        (OUTPUT,),
        SegmentScore(class_id, frozen),
        target_resolver=PredictedSegment(class_id) if mask is None else None,
        batch_slicer=SegmentSlice(class_id, frozen) if frozen and one_per_image else None,
        kind="segment",
    )


@dataclass(frozen=True)
class SegmentScore:
    """Mean score of a class where a mask is true, or where the class is predicted."""

    class_id: int | str
    mask: FrozenTensor | None

    def __call__(self, acts: Activations) -> Tensor:
        """Activations -> (N,)."""
        output = _segmentation_scores(acts)
        where = (
            self.mask.value.to(output.device).bool()
            if self.mask
            else _predicted_mask(acts, self.class_id)
        )
        mask = _expand_mask(where, output)
        size = mask.flatten(1).sum(1)
        if not bool((size > 0).all()):
            msg = f"No pixel is predicted as class {self.class_id!r}; give a mask to choose another region."
            raise TargetError(msg)
        scores = output[
            :, check_class_id(find_class_id(self.class_id, acts.labels), output.shape[1])
        ]
        return (scores * mask).flatten(1).sum(1) / size


@dataclass(frozen=True)
class PredictedSegment:
    """The segment predicted for the unmodified photograph."""

    class_id: int | str

    def __call__(self, acts: Activations) -> Objective:
        """Activations of one photograph -> its segment."""
        return segment(self.class_id, _predicted_mask(acts, self.class_id))


@dataclass(frozen=True)
class SegmentSlice:
    """The segments of a part of a batch that has one mask per image."""

    class_id: int | str
    masks: FrozenTensor

    def __call__(self, start: int, stop: int) -> Objective:
        """Start and stop -> their segments."""
        return segment(self.class_id, self.masks.value[start:stop])


def _segmentation_scores(acts: Activations) -> Tensor:
    """The network's scores as (N, K, H, W), also of one map, (N, H, W)."""
    output = acts[OUTPUT]
    if output.dim() == 3 and acts.count in (None, len(output)):
        output = output[:, None]
    if output.dim() != 4 or isinstance(output, Detections):
        msg = f"A segmentation gives (N, K, H, W), but this network returns {tuple(output.shape)}."
        raise TargetError(msg)
    return output


def _predicted_mask(acts: Activations, class_id: int | str) -> Tensor:
    """Where a segmentation predicts a class, (N, H, W)."""
    output = _segmentation_scores(acts)
    number = check_class_id(find_class_id(class_id, acts.labels), output.shape[1])
    return Scores(output, acts.probabilities).where_predicted(number)


def _expand_mask(mask: Tensor, output: Tensor) -> Tensor:
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

    Args:
        k: which box of each photograph, from 0.

    Returns:
        An objective of kind "box" that reads (N,) scores from 0 to 1.

    Raises:
        TargetError: if `k` is not a whole number; when it is read, if a photograph has fewer boxes.
        NotApplicableError: when it is read, if the network is no detector, or a detector found
            nothing in some photograph.

    Example:
        >>> from torchvision.models.detection import ssdlite320_mobilenet_v3_large as detector
        >>> import convscope as cs
        >>> net = cs.load(detector(weights_backbone=None), mean=0.0, std=1.0, size=320)
        >>> net.score(cs.box(0), "sample:china").shape
        torch.Size([1])
    """
    k = int(to_integer(k))
    return Objective(f"box:{k}", (OUTPUT,), BoxScore(k), target_resolver=TrackedBox(k), kind="box")


@dataclass(frozen=True)
class BoxScore:
    """Score of the `k`-th box."""

    k: int

    def __call__(self, acts: Activations) -> Tensor:
        """Activations -> (N,)."""
        return _detections_with_box(acts, self.k)[:, self.k, 0]


@dataclass(frozen=True)
class TrackedBox:
    """The `k`-th box of the unmodified photograph."""

    k: int

    def __call__(self, acts: Activations) -> Objective:
        """Activations of one photograph -> the box that overlaps most with its `k`-th.

        Raises:
            NotApplicableError: if that box has no area.
        """
        row = _detections_with_box(acts, self.k)[0, self.k]
        left, top, right, bottom = row[1:5].tolist()
        if not (right > left and bottom > top):
            msg = (
                f"Box {self.k} has no area (from {left:.4g}, {top:.4g} to {right:.4g}, {bottom:.4g}), so no "
                "box of a changed photograph overlaps with it; explain another box."
            )
            raise NotApplicableError(msg)
        overlapping = OverlappingBox(FrozenTensor.of(row))
        return Objective(f"box:{self.k}", (OUTPUT,), overlapping, kind="box")


@dataclass(frozen=True)
class OverlappingBox:
    """Score of the detection that overlaps most with a row of `Detections`."""

    row: FrozenTensor

    def __call__(self, acts: Activations) -> Tensor:
        """Activations -> (N,)."""
        from torchvision.ops import box_iou

        detections, target = _detections(acts), self.row.value
        if not detections.shape[1]:
            return detections.sum((1, 2))
        target = target.to(detections)
        same_class = detections[..., 5] == target[5]
        iou = box_iou(detections[..., 1:5].flatten(0, 1), target[None, 1:5]).view(same_class.shape)
        best, index = (iou * same_class).max(1)
        return detections[..., 0].gather(1, index[:, None])[:, 0] * (best > 0)


def _detections(acts: Activations) -> Tensor:
    output = acts[OUTPUT]
    if not isinstance(output, Detections):
        msg = "This network is not a detector whose boxes are known, so there is no box to explain; explain a class instead, such as class:0."
        raise NotApplicableError(msg)
    return output.as_subclass(Tensor)


def _detections_with_box(acts: Activations, k: int) -> Tensor:
    """The detections, if every photograph has a `k`-th box."""
    detections = _detections(acts)
    counts = (detections[..., 0] > 0).sum(1)
    if not bool((counts > 0).all()):
        msg = (
            f"Nothing was detected in photograph {int(counts.argmin())}, so there is no box to "
            "explain; another photograph or a lower score threshold of the detector may help."
        )
        raise NotApplicableError(msg)
    if k >= int(counts.min()):
        msg = f"There is no box {k} in every photograph; box:0 is the most confident."
        raise TargetError(msg)
    return detections
