"""Options of a run that can be resumed: how they are stored with it, and taken up again."""

from __future__ import annotations

import argparse
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

from captum_softcam._names import quoted, shown

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
        ValueError: if an option is given that is not what the run was started with, or a stored one has a value that the
            parser does not take.
    """
    actions = {action.dest: action for action in parser._actions}
    for name, given in plain_options(parser, options).items():
        if given == parser.get_default(name):
            setattr(options, name, _parsed(actions[name], stored.get(name, given)))
        elif given != stored.get(name) and name not in free:
            words = quoted(stored.get(name))
            raise ValueError(f"{_flag(name)} {shown(given)} is not what the run was started with ({words}); leave it out.")


def _parsed(action: argparse.Action, value: Any) -> Any:
    """A stored value as the parser would have given it."""
    if value == action.default and type(value) is type(action.default):
        return value
    parsed: Any
    try:
        if action.nargs == 0:
            parsed = {True: True, False: False}[value]
        else:
            text = ",".join(value) if isinstance(value, list) else str(value)
            parsed = action.type(text) if callable(action.type) else text
        fits = action.choices is None or parsed in action.choices
    except (argparse.ArgumentTypeError, KeyError, TypeError, ValueError):
        fits = False
    if not fits:
        raise ValueError(
            f"the run was started with {_flag(action.dest)} {quoted(value)}, which it does not take: the settings are "
            "damaged; put a copy of them back, or start anew with another --out."
        )
    return parsed


def _flag(name: str) -> str:
    return "--" + name.replace("_", "-")
