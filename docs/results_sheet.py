"""Make docs/results.jpg: one picture of every kind of result, with the call that makes it.

python docs/results_sheet.py
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
from PIL import Image, ImageOps

import convscope as cs
from convscope.render.grid import sheet

PHOTO, WIDE, TALL = "sample:china", 460, 400


def main() -> None:
    """Draw all results and write the sheet."""
    net = cs.load()
    church = cs.cam(net, PHOTO)
    drawn = {
        "predict(net, photo)": cs.predict(net, PHOTO).picture(),
        "cam(net, photo)": church.picture(over="original"),
        'cam(...).side_by_side(cam(net, photo, "gas pump"))': church.side_by_side(
            cs.cam(net, PHOTO, "gas pump")
        ),
        "cam_across_layers(net, photo)": cs.cam_across_layers(net, PHOTO).picture(),
        'saliency(net, photo, method="guided")': cs.saliency(net, PHOTO, method="guided").picture(
            over="original", opacity=0.8
        ),
        "occlusion(net, photo)": cs.occlusion(net, PHOTO).picture(over="original"),
        "compare(net, photo)": cs.compare(
            net, PHOTO, methods=["gradcam", "layercam", "scorecam", "guided", "smoothgrad", "rise"]
        ).picture(),
        "occlusion_panels(net, photo)": cs.occlusion_panels(net, PHOTO).picture(),
        'filters(net, "conv:1")': cs.filters(net).picture(),
        'maps(net, photo, "stage:3")': cs.maps(net, PHOTO, "stage:3", strongest=16).picture(),
        'deconv_strongest(net, photo, "conv:4")': cs.deconv_strongest(
            net, PHOTO, "conv:4", top=9
        ).picture(),
        "synthesize(net, [...])": cs.synthesize(
            net, [f"conv:7:{k}" for k in (17, 30, 44, 58)]
        ).picture(),
        "dream(net, photo)": cs.dream(net, PHOTO).picture(),
        "layer_table(net)": cs.layer_table(net).picture(),
        "check(net, photo)": cs.check(net, PHOTO).chart.picture(),
        'cam(..., theme="dark")': church.picture(theme="dark"),
    }
    cells = [ImageOps.pad(one, (WIDE, TALL), color=(255, 255, 255)) for one in drawn.values()]
    tiles = [np.asarray(cell, dtype=np.float32) / 255 for cell in cells]
    page: Image.Image = sheet(
        tiles, columns=4, tile=WIDE, gap=10, captions=list(drawn), theme="light"
    )
    page.save(Path(__file__).parent / "results.jpg", quality=85)


if __name__ == "__main__":
    main()
