"""A microscope for convolutional networks: see what a network has learnt and why it decides so.

The public names stand in `__init__.pyi`; each is loaded when it is first used, so that
`import convscope` costs nothing.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
