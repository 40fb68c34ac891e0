"""Docstrings of the reference name every parameter, return value and error, and pytest runs every example."""

from __future__ import annotations

import ast
import doctest
import importlib
import inspect
import pkgutil
import re
from collections.abc import Iterator
from dataclasses import is_dataclass
from pathlib import Path
from typing import Any

import pytest
from torch import Tensor

import captum_softcam

ROOT = Path(captum_softcam.__path__[0])
PACKAGES = ["captum_softcam"]
FOUND = pkgutil.walk_packages(captum_softcam.__path__, "captum_softcam.")
PACKAGES += [module.name for module in FOUND if module.ispkg and "._" not in module.name]
CALLED_BY_USERS = {"__call__", "attribute", "forward"}  # whatever Captum and PyTorch say of them
SHAPE = re.compile(r"\([NP](, [\w.]+)*,?\)")


def is_ours(thing: Any) -> bool:
    return thing.__module__.startswith("captum_softcam")


def methods(cls: type) -> Iterator[tuple[str, Any]]:
    """What users call of a class that it defines; a method of another library's is for that library to call."""
    foreign = [base for base in cls.__mro__[1:] if not is_ours(base)]
    for name, found in vars(cls).items():
        public = not name.startswith("_") and not any(hasattr(base, name) for base in foreign)
        if isinstance(found, (type(methods), classmethod, staticmethod)) and (public or name in CALLED_BY_USERS):
            yield name, getattr(cls, name)


def reference() -> dict[str, Any]:
    """Every function, class and method of the reference by its name there."""
    found: dict[str, Any] = {}
    for module in map(importlib.import_module, PACKAGES):
        named = {name: getattr(module, name) for name in module.__all__}
        found |= {name: thing for name, thing in named.items() if inspect.isclass(thing) or inspect.isfunction(thing)}
    inner = {f"{name}.{own}": each for name, cls in found.items() if inspect.isclass(cls) for own, each in methods(cls)}
    return {**found, **inner}


REFERENCE = reference()


def section(text: str, name: str) -> str:
    """What stands below a heading, to the left."""
    found = re.search(rf"^{name}:\n((?:    .*\n|\n)+)", f"{text}\n", re.MULTILINE)
    return inspect.cleandoc(found[1]) if found else ""


def entries(text: str) -> list[str]:
    """The parameters that have an entry; several may share one."""
    found = re.findall(r"^([*\w]+(?:, \w+)*)(?: \(.*?\))?:", section(text, "Args"), re.MULTILINE)
    return [name.strip("*") for names in found for name in names.split(", ")]


def is_protocol(thing: Any) -> bool:
    """Whether it is a class that nobody calls."""
    return getattr(thing, "_is_protocol", False)


def parameters(thing: Any) -> list[str]:
    """Those that a caller gives."""
    names = [] if is_protocol(thing) else inspect.signature(thing).parameters
    return [name for name in names if name != "self"]


def tells_result(function: Any, text: str) -> bool:
    """In a section; where it is a yes or no by the first word, where it is a tensor by its shape."""
    kind = inspect.signature(function).return_annotation
    in_words = {None: True, "None": True, "bool": text.startswith("Whether"), "Tensor": bool(SHAPE.search(text))}
    return in_words.get(kind, False) or bool(section(text, "Returns") or section(text, "Yields"))


def raised(thing: Any) -> set[str]:
    """Kinds of errors in its own code, of a class in that of its constructor."""
    code = vars(thing).get("__init__") if inspect.isclass(thing) else thing
    made_up = code is None or is_dataclass(thing) or is_protocol(thing)
    return set() if made_up else set(re.findall(r"raise ([A-Z]\w+)\(", inspect.getsource(code)))


def gaps(thing: Any) -> list[str]:
    """What a docstring leaves out, or makes up."""
    text, given = inspect.getdoc(thing) or "", parameters(thing)
    wanted = [name for name in given if not name.startswith("_")]
    found = [name for name in wanted if name not in entries(text) and f"``{name}``" not in text]
    found += [f"{name}, which is no parameter" for name in entries(text) if name not in given]
    if not inspect.isclass(thing) and not tells_result(thing, text):
        found.append("what it returns")
    return found + [name for name in sorted(raised(thing)) if name not in text]


@pytest.mark.parametrize("name", REFERENCE)
def test_a_docstring_leaves_nothing_out(name):
    assert gaps(REFERENCE[name]) == []


def test_it_is_what_users_call_that_is_looked_at():
    called = {"LayerReciproCam.attribute_all", "Comparison.load", "SoftCamModel.forward", "pointing_game", "PointingGame"}
    hooks = {"SoftCamTask.training_step", "ElasticNetEvidenceLoss.extra_repr", "QuantusMetric.evaluate_batch"}
    assert called <= REFERENCE.keys()
    assert not hooks & REFERENCE.keys()


def whole(images: Tensor, size: int = 1) -> Tensor:
    """Images (N, C, H, W) of another size.

    Args:
        images (Tensor): (N, C, ...).
        size (int): in pixels,
            at least 1. Default: 1

    Raises:
        ValueError: if it is not.
    """
    if size < 1:
        raise ValueError(size)
    return images


@pytest.mark.parametrize(
    ("left_out", "gap"),
    [
        ("", []),
        (r"    images .*\n", ["images"]),
        (r"    size .*\n.*\n", ["size"]),
        (r"Raises:\n.*", ["ValueError"]),
        (r"\(N, C, H, W\)|\(N, C, ...\)", ["what it returns"]),
        (r"size(?= \(int)", ["size", "sides, which is no parameter"]),
    ],
)
def test_a_gap_is_noticed(left_out, gap, monkeypatch):
    monkeypatch.setattr(whole, "__doc__", re.sub(left_out, "sides" if len(gap) > 1 else "", inspect.getdoc(whole)))
    assert gaps(whole) == gap


def with_examples(file: Path) -> set[str]:
    """Return the names in a file whose docstrings have an example, or promise one."""
    found = set()
    for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
        if isinstance(node, (ast.Module, ast.ClassDef, ast.FunctionDef)):
            text = ast.get_docstring(node) or ""
            if re.search(r"Examples?::|>>>", text):
                found.add(getattr(node, "name", ""))
    return found


FILES = {path.relative_to(ROOT.parent).as_posix(): names for path in ROOT.rglob("*.py") if (names := with_examples(path))}


@pytest.mark.parametrize("file", FILES)
def test_every_example_is_run(file):
    """The finder that pytest collects with overlooks functions wrapped by a decorator of another module."""
    module = importlib.import_module(file.removesuffix(".py").replace("/", ".").removesuffix(".__init__"))
    examples = [test for test in doctest.DocTestFinder(exclude_empty=True).find(module) if test.examples]
    assert {test.name.removeprefix(module.__name__).rpartition(".")[2] for test in examples} == FILES[file]


def test_there_are_examples():
    assert sum(map(len, FILES.values())) > 30
