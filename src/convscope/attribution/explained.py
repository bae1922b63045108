"""Name what a method explained, with scores that its own passes computed."""

from __future__ import annotations

import torch

from convscope.network.network import Network
from convscope.network.watch_scores import ScoreWatch
from convscope.objectives.explained import Explained, explain
from convscope.objectives.makers import OUTPUT, Activations, Objective


def explained_by(net: Network, objective: Objective, watch: ScoreWatch) -> list[Explained]:
    """What each image was explained for.

    Args:
        net: the network.
        objective: of all images, or one for each.
        watch: opened around the method's passes; images whose scores they did not compute, as of
            methods that see only covered or noisy copies, cost one plain pass more.
    """
    count = len(watch.pixels)
    if OUTPUT in objective.layers:
        with torch.no_grad():
            for i in watch.missing():
                net.run(watch.pixels[i : i + 1], (OUTPUT,))  # the watch sees it
    kind = net.probability_rule.kind if OUTPUT in objective.layers else "auto"
    like = Activations({}, net.labels, probabilities=kind, count=count)
    return explain(objective, watch.scores(), like)
