"""Check a file of weights against the hash in its name and its own checksums."""

from __future__ import annotations

import hashlib
import re
import warnings
import zlib
from collections.abc import Iterator
from pathlib import Path
from zipfile import BadZipFile, ZipFile, ZipInfo, is_zipfile

from convscope.errors import LoadError

_HASH_IN_NAME = re.compile(r"-([0-9a-f]{8,64})\.")  # as torch hub names its files
_CHUNK_BYTES = 1 << 20
_MAX_EXPANSION = 16  # times as large as the file its content may be,
_EXPANSION_SLACK_BYTES = 1 << 26  # and so much more


def check_integrity(path: Path) -> None:
    """Compare a file with the hash in its name, or else with the checksums inside it.

    The hash is compared where the name has one. Files that `torch.save` wrote from torch 1.6 on
    are zip archives with a CRC-32 for each tensor, which torch itself does not read. Other
    formats, safetensors and older pickles, have no checksum.

    Raises:
        LoadError: if the file is damaged, or another one than that published under its name.
    """
    expected = _HASH_IN_NAME.search(path.name)
    if expected and _hash_matches(path, expected[1]):
        return
    _check_archive(path)


def _hash_matches(path: Path, expected: str) -> bool:
    """Whether the SHA-256 of a file begins as expected; raises or warns if not."""
    with path.open("rb") as file:
        actual = hashlib.file_digest(file, "sha256").hexdigest()[: len(expected)]
    if actual == expected:
        return True
    source = _publisher(path.name)
    if source:
        msg = (
            f"{path} is damaged or was changed: the file of this name that {source} publishes has "
            f"a SHA-256 that begins with {expected}, and this one's begins with {actual}. Delete it "
            "and fetch it again; weights that were changed on purpose need another name."
        )
        raise LoadError(msg)
    if not expected.isdecimal():  # such a name may end in a date
        warnings.warn(
            f"{path} may be damaged: its name says that its SHA-256 begins with {expected}, but it "
            f"begins with {actual}.",
            UserWarning,
            stacklevel=2,
        )
    return False


def _publisher(name: str) -> str | None:
    """Which library publishes weights under a file name; called only after a mismatch."""
    if name in _torchvision_filenames():
        return "torchvision"
    return "timm" if name in _timm_filenames() else None


def _torchvision_filenames() -> set[str]:
    from torchvision.models import get_model_weights, list_models

    return {
        str(weights.url).rpartition("/")[2]
        for model in list_models()
        for weights in get_model_weights(model)
    }


def _timm_filenames() -> Iterator[str]:
    try:
        import timm
    except ImportError:
        return
    for model in timm.list_pretrained():
        config = timm.get_pretrained_cfg(model)
        if config and config.url:
            yield str(config.url).rpartition("/")[2]


def _check_archive(path: Path) -> None:
    try:
        archive = ZipFile(path) if is_zipfile(path) else None
    except (BadZipFile, ValueError, NotImplementedError):  # ValueError: names that are not text
        return  # torch says what is wrong
    if archive is None:
        return
    with archive:
        _check_unpacked_size(path, archive)
        for member in archive.infolist():
            if member.CRC and not _crc_matches(archive, member):  # 0: written without checksums
                msg = (
                    f"{path} is damaged: the checksum of {member.filename!r} inside it is wrong. "
                    "Fetch it again, or save it again."
                )
                raise LoadError(msg)


def _check_unpacked_size(path: Path, archive: ZipFile) -> None:
    """Refuse a compressed archive far smaller than its content; torch does not compress."""
    size = sum(member.file_size for member in archive.infolist())
    if size > _MAX_EXPANSION * path.stat().st_size + _EXPANSION_SLACK_BYTES:
        msg = f"{path} has {path.stat().st_size:,} bytes and would unpack to {size:,}. Real weights do not compress so well; if you trust the file, save it again with torch.save, which does not compress."
        raise LoadError(msg)


def _crc_matches(archive: ZipFile, member: ZipInfo) -> bool:
    try:
        with archive.open(member) as content:
            while content.read(_CHUNK_BYTES):
                pass
    except (BadZipFile, EOFError, OSError, RuntimeError, ValueError, zlib.error):
        return False  # RuntimeError: encrypted, or unknown; ValueError: a name that is no text
    return True
