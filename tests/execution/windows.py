"""All scores under windows at once, which the library never keeps."""

import torch

from convscope.execution.incremental.choose_algorithm import activations_under_windows
from convscope.execution.incremental.windows import Windows


def scores_under_windows(net, image, corners, size, fill_pixels, *, algorithm="auto"):
    """The network's scores (windows, K) for one photograph with each of many windows replaced."""
    windows = Windows.on(image, corners, size, fill_pixels)
    _, batches = activations_under_windows(net, windows, algorithm=algorithm)
    scores = None
    for indices, activations in batches:
        part = activations["output"]
        scores = part.new_empty(len(windows), *part.shape[1:]) if scores is None else scores
        scores[torch.from_numpy(indices).to(part.device)] = part
    return torch.empty(0, 0, device=net.device) if scores is None else scores
