"""Methods by the names that their papers give them, for captions."""

from __future__ import annotations

TITLES = {
    "cam": "CAM",
    "gradcam": "Grad-CAM",
    "gradcam++": "Grad-CAM++",
    "xgradcam": "XGrad-CAM",
    "hirescam": "HiResCAM",
    "layercam": "LayerCAM",
    "eigencam": "Eigen-CAM",
    "eigengradcam": "EigenGrad-CAM",
    "fullgrad": "FullGrad",
    "finercam": "Finer-CAM",
    "scorecam": "Score-CAM",
    "ablationcam": "Ablation-CAM",
    "gradient": "Gradient",
    "inputxgradient": "Input times gradient",
    "smoothgrad": "SmoothGrad",
    "vargrad": "VarGrad",
    "integrated": "Integrated gradients",
    "guided": "Guided backpropagation",
    "deconvnet": "DeconvNet",
    "guidedgradcam": "Guided Grad-CAM",
    "deconv": "DeconvNet projection",
    "deconv_strongest": "DeconvNet projections",
    "predict": "Predictions",
    "compare": "Comparison",
    "synthesize": "Synthesized",
    "layer_table": "Layers",
    "filter_table": "Filters",
    "occlusion": "Occlusion",
    "occlusion_by_class": "Occlusion",
    "rise": "RISE",
    "maps": "Activation maps",
    "activation_map": "Activation map",
    "filters": "Filters",
}


def title_of(method: str) -> str:
    """What a caption calls a method; functions by their names in plain words.

    >>> title_of("gradcam++"), title_of("channel_across_layers"), title_of("cam_across_layers, gradcam")
    ('Grad-CAM++', 'Channel across layers', 'Grad-CAM across layers')
    """
    name, comma, member = method.partition(", ")
    if comma and name == "cam_across_layers":
        return f"{TITLES.get(member, member)} across layers"
    if method in TITLES:
        return TITLES[method]
    words = method.replace("_", " ")
    return words[:1].upper() + words[1:]
