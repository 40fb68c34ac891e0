"""Options of a run that can be resumed: how they are stored with it, and taken up again."""

from __future__ import annotations

import argparse
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

__all__ = ["plain_options", "take_stored"]

_NEVER_STORED = ("help", "command", "run", "resume", "out")


def plain_options(parser: argparse.ArgumentParser, options: argparse.Namespace) -> dict[str, Any]:
    """The options of the parser as JSON can hold them; files by their full name, for a run may go on from elsewhere."""
    names = [action.dest for action in parser._actions if action.dest not in _NEVER_STORED]
    values = {name: getattr(options, name) for name in names}
    return {name: str(value.absolute()) if isinstance(value, Path) else value for name, value in values.items()}


def take_stored(
    parser: argparse.ArgumentParser, options: argparse.Namespace, stored: Mapping[str, Any], free: Collection[str]
) -> None:
    """Put the stored options in place; what is given besides must be the same, but for the ``free`` ones.

    Raises:
        ValueError: if an option is given that is not what the run was started with.
    """
    for name, given in plain_options(parser, options).items():
        if given == parser.get_default(name):
            setattr(options, name, _parsed(parser, name, stored.get(name, given)))
        elif given != stored.get(name) and name not in free:
            flag = "--" + name.replace("_", "-")
            raise ValueError(f"{flag} {given} is not what the run was started with ({stored.get(name)}); leave it out.")


def _parsed(parser: argparse.ArgumentParser, name: str, value: Any) -> Any:
    """A stored value as the parser would have given it."""
    kinds = {action.dest: action.type for action in parser._actions}
    return Path(value) if kinds[name] is Path and value is not None else value
