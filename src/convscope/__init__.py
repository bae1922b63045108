"""A microscope for convolutional networks: see what a network has learnt and why it decides so.

The public names stand in `__init__.pyi`; each is loaded when it is first used, so that
`import convscope` costs nothing.
"""

from typing import Any

import lazy_loader

_public, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)


def __getattr__(name: str) -> Any:
    if name == "__version__":
        from importlib.metadata import version

        return version("convscope")
    return _public(name)
