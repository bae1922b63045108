"""The methods of two commands, each in half a sentence, for help and completion without torch."""

CAM = {
    "cam": "the weights of the last linear layer, where the network has one after its maps",
    "gradcam": "each channel weighted by its mean gradient",
    "gradcam++": "as gradcam, positive gradients weighted by higher derivatives: several objects",
    "xgradcam": "as gradcam, gradients weighted by the activation: weights that add up to the score",
    "hirescam": "gradient times activation, cell by cell, without a mean",
    "layercam": "positive gradient times activation, also for early layers",
    "eigencam": "the main direction of the activations, for no class",
    "eigengradcam": "the main direction of gradient times activation",
    "fullgrad": "gradients at the input and at the biases of every layer",
    "finercam": "what tells a class from its strongest rivals",
    "scorecam": "each channel as a mask, weighted by the score behind it; slow, without gradients",
    "ablationcam": "each channel weighted by the fall of the score without it; slow, without gradients",
}
SALIENCY = {
    "gradient": "how the score changes with each pixel",
    "inputxgradient": "gradient times pixel: what each pixel contributes",
    "smoothgrad": "the mean gradient of noisy copies",
    "vargrad": "how much the gradients of noisy copies vary",
    "integrated": "gradients along the way from black to the photograph",
    "guided": "only positive gradients pass each ReLU: fine lines, little about the class",
    "deconvnet": "ReLUs on the way back, as in DeconvNet",
    "guidedgradcam": "guided times gradcam: fine lines where the evidence is",
}


def listed(methods: dict[str, str]) -> str:
    """Methods as lines of a help page."""
    return "\n\n".join(["Methods:", *(f"  {name}: {what}" for name, what in methods.items())])
