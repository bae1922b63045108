"""Run notebooks from start to end and keep their pictures small.

    python notebooks/refresh.py                # all of them
    python notebooks/refresh.py filters        # one

A picture is kept once, as a JPEG or PNG of at most WIDEST pixels a side, whichever is smaller;
animations are left as they are.
"""

import io
import sys
from base64 import b64decode, b64encode
from pathlib import Path
from typing import Any

import nbformat
from nbclient import NotebookClient
from PIL import Image

HERE = Path(__file__).parent
WIDEST = 560
PATIENCE = 120  # seconds, for the whole notebook


def main() -> None:
    """Refresh what is named, or everything."""
    names = sys.argv[1:] or sorted(path.stem for path in HERE.glob("*.ipynb"))
    for name in names:
        path = HERE / f"{name}.ipynb"
        book = executed(path)
        for cell in book.cells:
            for output in cell.get("outputs", []):
                output.update(small(output))
        nbformat.write(book, path)
        print(f"{path.name}: {path.stat().st_size / 1e3:.0f} kB")


def executed(path: Path) -> nbformat.NotebookNode:
    """The notebook after a run from start to end, in its own folder."""
    book = nbformat.read(path, as_version=4)
    NotebookClient(book, timeout=PATIENCE, resources={"metadata": {"path": str(HERE)}}).execute()
    for cell in book.cells:
        cell.metadata.pop("execution", None)  # the time of day
    return book


def small(output: dict[str, Any]) -> dict[str, Any]:
    """An output whose picture is small and stands there once."""
    data = dict(output.get("data", {}))
    if "image/png" not in data or "image/gif" in data.get("text/html", ""):
        data.pop("image/png", None)
        return {"data": data} if data else {}
    kind, picture = _smaller(b64decode(data.pop("image/png")))
    kept = {"text/plain": data["text/plain"]}
    return {"data": {**kept, kind: b64encode(picture).decode()}}


def _smaller(png: bytes) -> tuple[str, bytes]:
    with Image.open(io.BytesIO(png)) as found:
        picture = found.convert("RGB")
    picture.thumbnail((WIDEST, WIDEST), Image.Resampling.LANCZOS)
    forms = {}
    for kind, options in (("image/jpeg", {"quality": 72}), ("image/png", {"optimize": True})):
        buffer = io.BytesIO()
        picture.save(buffer, kind.partition("/")[2], **options)
        forms[kind] = buffer.getvalue()
    kind = min(forms, key=lambda name: len(forms[name]))
    return kind, forms[kind]


if __name__ == "__main__":
    main()
