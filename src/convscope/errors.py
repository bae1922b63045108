"""Every error raised on purpose; each says what was given, what would be right and what to do.

ConvscopeError
├── LayerNotFoundError    an address that names no layer of this network   (KeyError)
├── TargetError           a class, channel or objective that cannot be read (ValueError)
├── NotApplicableError    a method that is not defined for this network     (ValueError)
│   └── NoGradientError   nothing that a picture shows changes what is asked
├── ArgumentError         an option outside its range                       (ValueError)
├── ImageError            a file or array that is no usable picture         (ValueError)
├── LoadError             a network or its weights that cannot be loaded    (ValueError)
├── StoppedError          a long computation ended on request before there was a result
└── DecoderStartError     the process that decodes pictures cannot be started
"""

import difflib
from collections.abc import Sequence


class ConvscopeError(Exception):
    """Base class of all errors of this library.

    Example:
        >>> import convscope as cs
        >>> net = cs.load()
        >>> try:
        ...     cs.cam(net, "sample:china", "class:chirch")
        ... except cs.ConvscopeError as error:
        ...     print(error)
        There is no class 'chirch'; the closest are church.
    """

    def __str__(self) -> str:
        """The sentence itself on one line; KeyError would put quotes around it."""
        return printable(str(self.args[0])) if self.args else ""


class LayerNotFoundError(ConvscopeError, KeyError):
    """An address that names no layer of this network.

    Example:
        >>> import convscope as cs
        >>> try:
        ...     cs.load().layers.find("conv:14")
        ... except cs.LayerNotFoundError as error:
        ...     print(str(error)[:28])
        There is no layer 'conv:14';
    """

    def __init__(self, address: object, known: Sequence[str], reason: str = "") -> None:
        """Say why, where that is known; else name the closest of the `known` addresses."""
        if reason:
            super().__init__(
                f"{reason} The command 'convscope layers' and net.layers list the layers."
            )
            return
        near = closest(address if isinstance(address, str) else "", known)
        shown = repr(address) if len(repr(address)) < 80 else f"of this {type(address).__name__}"
        super().__init__(
            f"There is no layer {shown}; the closest are {near}. "
            "The command 'convscope layers' and net.layers list them all."
        )


class TargetError(ConvscopeError, ValueError):
    """A class, channel or objective that cannot be read.

    Example:
        >>> import convscope as cs
        >>> try:
        ...     cs.cam(cs.load(), "sample:china", 1000)
        ... except cs.TargetError as error:
        ...     print(error)
        There is no class 1000: this network has 10, numbered 0 to 9.
    """


class NotApplicableError(ConvscopeError, ValueError):
    """A method that is not defined for this network, and why.

    Example:
        >>> import convscope as cs
        >>> try:
        ...     cs.cam(cs.load(), "sample:china", layer="classifier")
        ... except cs.NotApplicableError as error:
        ...     print(str(error)[:41])
        classifier gives values of shape (1, 10),
    """


class NoGradientError(NotApplicableError):
    """Nothing that a picture shows changes what is asked, so none can be made for it."""


class ArgumentError(ConvscopeError, ValueError):
    """An option outside its range.

    Example:
        >>> import convscope as cs
        >>> try:
        ...     cs.cam(cs.load(), "sample:china", method="gradcam2")
        ... except cs.ArgumentError as error:
        ...     print(str(error)[:30])
        There is no method 'gradcam2';
    """


class ImageError(ConvscopeError, ValueError):
    """A file or array that is no usable picture.

    Example:
        >>> import convscope as cs
        >>> try:
        ...     cs.read("china.jpg")
        ... except cs.ImageError as error:
        ...     print(error)
        There is no file china.jpg.
    """


class LoadError(ConvscopeError, ValueError):
    """A network or its weights that cannot be loaded.

    Example:
        >>> import convscope as cs
        >>> try:
        ...     cs.load(weights="fine-tuned.pth")
        ... except cs.LoadError as error:
        ...     print(error)
        The bundled network has its own weights; name another network to load yours into.
    """


class StoppedError(ConvscopeError):
    """Somebody asked a long computation to end before there was a result.

    Example:
        >>> import convscope as cs
        >>> try:
        ...     cs.rise(cs.load(), "sample:china", should_stop=lambda: True)
        ... except cs.StoppedError as error:
        ...     print(error)
        Stopped on request, after 0 of 2000 masks: no result yet.
    """


class DecoderStartError(ConvscopeError):
    """The process that decodes pictures cannot be started."""


_JOINERS = "\u200c\u200d"  # Persian words and emoji need them; they neither move nor hide text


def printable(text: str) -> str:
    r"""Text of strangers, such as a file's name, as a person may safely see it: on one line.

    Control characters, escape sequences of terminals, marks that turn the direction of writing
    and bytes that are not UTF-8 are shown escaped.

    >>> printable("a\n\x1b[31m\u202egpj.\udcff")
    'a\\n\\x1b[31m\\u202egpj.\\xff'
    """
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() or c in _JOINERS else _escaped(c) for c in text)


def _escaped(character: str) -> str:
    code = ord(character)
    if 0xDC80 <= code <= 0xDCFF:  # how Python keeps a byte of a name that is not UTF-8
        return f"\\x{code - 0xDC00:02x}"
    return character.encode("unicode_escape").decode()


def no_maps(layer: str, shape: Sequence[int]) -> str:
    """What to say of a layer whose values are no maps of channels."""
    return (
        f"{layer} gives values of shape {tuple(shape)}, which are not maps of channels (one of each "
        "for every photograph, with its cells in place)."
    )


def closest(word: str, known: Sequence[str], count: int = 3) -> str:
    """The `count` entries of `known` most like `word`, as words of a sentence.

    >>> closest("conv:14", ["conv:1", "conv:13", "relu:1"], 2)
    'conv:1, conv:13'
    """
    near = difflib.get_close_matches(word, known, n=count, cutoff=0.5)
    inside = [name for name in known if word and word in name]
    found = list(dict.fromkeys([*near, *inside]))[:count]
    return ", ".join(found or list(known[-count:])) or "none"
