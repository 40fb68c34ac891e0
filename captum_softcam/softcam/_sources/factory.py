"""Networks that the user's own code builds: a factory in a module or in a file, named as such."""

from __future__ import annotations

import importlib
import importlib.util
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType
from typing import Any

from torch import nn

from captum_softcam._names import closest, quoted, reason, shown
from captum_softcam.softcam.checks import first_line

__all__ = ["is_code", "module_of", "run_factory"]

_HOW = "expected package.module:factory, path/to/file.py:factory, timm:NAME or hf:NAME"


def is_code(name: str) -> bool:
    """Check whether a name has the form ``module:factory`` or ``file.py:factory``, whose code runs only on this word."""
    place, _, factory = name.rpartition(":")
    return bool(place) and not name.startswith(("hf:", "timm:")) and factory.replace(".", "_").isidentifier()


def run_factory(name: str) -> Any:
    """Import the module of a factory and call it without arguments: this runs the user's code.

    Args:
        name (str): ``package.module:factory`` or ``path/to/file.py:factory``. A module that is not installed is looked for
            in the current folder. Instead of a function or a class it may name a module of torch, which is used as it is.

    Returns:
        torch.nn.Module or Classifier: what the factory returned, whose type is checked by the caller.

    Raises:
        FileNotFoundError: if there is no such file.
        ValueError: if the module cannot be imported, has no such factory, or if the factory fails.
    """
    place, _, factory = name.rpartition(":")
    try:
        module = _from_file(Path(place)) if place.endswith(".py") else _imported(place)
        found: Any = module
        for part in factory.split("."):
            found = getattr(found, part)
    except AttributeError as error:
        public = [key for key, value in vars(module).items() if callable(value) and not key.startswith("_")]
        raise ValueError(f"'{shown(place)}' has no factory {quoted(factory)}. {closest(factory, public)}") from error
    if isinstance(found, nn.Module) or not callable(found):
        return found
    try:
        return found()
    except Exception as error:  # the user's code raises whatever it likes
        raise ValueError(
            f"{shown(name)} failed without arguments: {type(error).__name__}: {reason(first_line(error))}."
        ) from error


def _imported(name: str) -> ModuleType:
    with _importing_from(Path.cwd()):
        try:
            return importlib.import_module(name)
        except Exception as error:
            if isinstance(error, ModuleNotFoundError) and str(error.name) in (name, name.partition(".")[0]):
                raise ValueError(f"there is no module {quoted(name)}; {_HOW}.") from error
            raise ValueError(_failed(name, error)) from error


def _from_file(path: Path) -> ModuleType:
    if not os.path.isfile(path):
        raise FileNotFoundError(f"'{shown(path)}' is not a file; {_HOW}.")
    spec = importlib.util.spec_from_file_location(path.stem, path)
    assert spec is not None  # a name that ends in .py has a loader
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    with _importing_from(path.absolute().parent):
        before = sys.modules.get(path.stem)
        sys.modules[path.stem] = module  # dataclasses and pickle look a class up there
        try:
            spec.loader.exec_module(module)
        except Exception as error:
            del sys.modules[path.stem]
            raise ValueError(_failed(path, error)) from error
        finally:
            if before is not None and getattr(before, "__file__", None) != module.__file__:
                sys.modules[path.stem] = before  # a package that happens to have the name of the file
    return module


def _failed(name: object, error: Exception) -> str:
    return f"'{shown(name)}' cannot be imported: {type(error).__name__}: {reason(first_line(error))}."


@contextmanager
def _importing_from(folder: Path) -> Iterator[None]:
    """Let modules beside the user's file be imported, as Python does for a script."""
    sys.path.insert(0, str(folder))
    try:
        yield
    finally:
        if str(folder) in sys.path:
            sys.path.remove(str(folder))


def module_of(found: Any, name: str) -> nn.Module:
    """Return the network that a factory returned, by itself or in a classifier.

    Raises:
        ValueError: if it returned neither.
    """
    model = found if isinstance(found, nn.Module) else getattr(found, "model", None)
    if not isinstance(model, nn.Module):
        raise ValueError(
            f"{shown(name)} returns {shown(type(found).__name__, 40)}; expected a torch.nn.Module or a Classifier."
        )
    return model.eval()
