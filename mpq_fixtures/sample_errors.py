"""A step of a sample's way: what goes wrong in it is that sample's failure, said with where it happened."""

from __future__ import annotations

import sysconfig
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

from mpq_fixtures.errors import describe_error
from mpq_fixtures.store import StoreError

_OWN = Path(__file__).parent
_INSTALLED = {"site-packages", "dist-packages", Path(sysconfig.get_path("stdlib")).name}


class SampleError(Exception):
    """A sample stopped at a step; the reason is for people."""

    def __init__(self, step: str, reason: str) -> None:
        super().__init__(reason)
        self.step = step


def attempt(step: str, action: Callable[..., Any], *arguments: Any) -> Any:
    """Call a step; what goes wrong in it is the sample's failure, but a full disk is the run's."""
    try:
        return action(*arguments)
    except StoreError:
        raise
    except Exception as error:
        raise SampleError(step, describe_error(error) + _where(error)) from error


def _where(error: Exception) -> str:
    """Return the file and line where somebody else's code raised, in brackets; "" where none did: our own errors say enough."""
    frames = [frame for frame in traceback.extract_tb(error.__traceback__) if not _INSTALLED & set(Path(frame.filename).parts)]
    frames = [frame for frame in frames if not Path(frame.filename).is_relative_to(_OWN)]
    return f" ({Path(frames[-1].filename).name}, line {frames[-1].lineno})" if frames else ""
