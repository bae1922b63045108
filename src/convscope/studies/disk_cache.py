"""Finished parts of a study on disk, so that an interrupted study resumes.

`joblib.Memory` does not do here. It pickles results, and reading a folder that somebody sent would
run what is in it; JSON runs nothing. Its key is a hash of all arguments, networks among them, and
its folders are named by that hash; ours is what the result depends on, and files have the part's name.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from convscope.dataset.manifest import output_fingerprint
from convscope.network.network import Network
from convscope.results.base import write_by_suffix


def cached(
    folder: str | Path | None, name: str, terms: Mapping[str, Any], make: Callable[[], Any]
) -> Any:
    """What `make` gives, or what it gave when it was last called on the same terms.

    Args:
        folder: where parts are kept; None keeps nothing.
        name: of the part.
        terms: all that the part depends on; others make another file.
        make: gives lists, numbers and words.

    Raises:
        ArgumentError: if the folder cannot be written to.
    """
    if folder is None:
        return make()
    mark = hashlib.sha256(json.dumps(terms, sort_keys=True, default=str).encode()).hexdigest()
    plain = re.sub(r"[^\w. -]", "_", name)  # a name of the user's is no path
    file = Path(folder) / f"{plain}-{mark[:12]}.json"
    if (before := _read(file)) is not None:
        return before
    result = make()
    write_by_suffix(file, {".json": lambda: json.dumps(result).encode()})
    return result


def _read(file: Path) -> Any:
    """None where there is nothing, or nothing whole."""
    try:
        return json.loads(file.read_bytes())
    except (OSError, ValueError):
        return None


def network_key(net: Network) -> dict[str, Any]:
    """Tells one network from another: its weights, and what it makes of them."""
    return {"network": net.fingerprint, "said": output_fingerprint(net), "size": net.input_size}
