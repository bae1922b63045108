"""The command line: parse, call one library function, show the result."""

from __future__ import annotations

import sys
import warnings
from typing import Any


def main() -> None:
    """Run a command; a user's mistake ends with one sentence and exit code 2."""
    from convscope.cli.commands import app
    from convscope.errors import ConvscopeError, StoppedError

    warnings.showwarning = _note
    try:
        app()
    except StoppedError as error:
        sys.stderr.write(f"convscope: {error}\n")
        sys.exit(130)
    except ConvscopeError as error:
        sys.stderr.write(f"convscope: {error}\n")
        sys.exit(2)
    except BrokenPipeError:
        sys.stderr.close()
        sys.exit(141)


def _note(message: Warning | str, category: type[Warning], *_: Any, **__: Any) -> None:
    """Warnings meant for people as a line; those of libraries about themselves not at all."""
    if category is UserWarning:
        sys.stderr.write(f"note: {message}\n")
