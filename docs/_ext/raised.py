"""Collect the error messages of the library from its code, and check that the troubleshooting page lists them all.

The text of every ``raise`` in the package is traced through f-strings, conditions, local names and functions that return
text. Placeholders are written in angle brackets: ``layer ⟨name⟩ is not in ⟨type of model⟩``. This module imports neither the
package nor Sphinx, so that the tests can use it without the extra ``docs``.
"""

from __future__ import annotations

import ast
import builtins
import re
from collections.abc import Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from itertools import product
from pathlib import Path

__all__ = ["Message", "blocks", "collect", "problems", "shown_by"]

PAGE = "troubleshooting"
_BLOCK = re.compile(r"^```\{error-messages\}\n(.*?)^```$", re.DOTALL | re.MULTILINE)
_TRANSPARENT = {
    "_short",
    "in_words",
    "list",
    "listed",
    "min",
    "named",
    "quoted",
    "reason",
    "repr",
    "shown",
    "sorted",
    "str",
    "tuple",
}  # functions whose argument describes a placeholder better than their name
_Function = ast.FunctionDef | ast.AsyncFunctionDef


@dataclass(frozen=True)
class Message:
    """A message of an error.

    Args:
        kind (str): of the exception, as in ``"ValueError"``.
        text (str): with ``⟨words⟩`` as placeholders.
        module (str): file below the package.
        line (int): of the ``raise``.
    """

    kind: str
    text: str
    module: str
    line: int


def collect(package: Path) -> list[Message]:
    """Collect the messages of all errors that a package raises, in the order of files and lines.

    Raises:
        ValueError: if the text of a ``raise`` cannot be traced.
    """
    found = [message for file in sorted(package.rglob("*.py")) for message in _File(file, package).messages()]
    return list(dict.fromkeys(found))


def blocks(page: str) -> list[list[str]]:
    """Return the lines of each block of a page."""
    return [[line for line in block.splitlines() if line] for block in _BLOCK.findall(page)]


def shown_by(words: Iterable[str], messages: Iterable[Message]) -> list[Message]:
    """Select the messages that contain any of these words, each text once; a complete message selects only itself."""
    texts = {message.text: message for message in reversed(list(messages))}
    chosen = {text for each in words for text in texts if (text == each if each in texts else each in text)}
    return [message for text, message in reversed(texts.items()) if text in chosen]


def problems(page: str, messages: list[Message]) -> list[str]:
    """List messages that the page lacks or shows twice, and words of it that are in no message."""
    places = [{message.text for message in shown_by(words, messages)} for words in blocks(page)]
    texts = {message.text: message for message in messages}
    found = []
    for text, message in texts.items():
        count = sum(text in place for place in places)
        if count != 1:
            where = f"captum_softcam/{message.module}:{message.line}"
            what = "is not explained: add words of it to the subject that it belongs to" if count == 0 else "is shown twice"
            found.append(f"docs/{PAGE}.md: {where} raises {text!r}, which {what}.")
    for words in (each for block in blocks(page) for each in block):
        if not any(words in text for text in texts):
            found.append(f"docs/{PAGE}.md: no error of the library says {words!r}; was it reworded?")
    return found


class _File:
    """The errors of one file."""

    def __init__(self, path: Path, package: Path) -> None:
        self.module = path.relative_to(package).as_posix()
        self.tree = ast.parse(path.read_text(encoding="utf-8"))
        self.parents = {child: node for node in ast.walk(self.tree) for child in ast.iter_child_nodes(node)}
        self.functions: dict[str, list[_Function]] = {}
        for node in ast.walk(self.tree):
            if isinstance(node, _Function):
                self.functions.setdefault(node.name, []).append(node)

    def messages(self) -> Iterator[Message]:
        """Yield the messages in the order of lines."""
        for node in sorted(self.parents, key=lambda node: getattr(node, "lineno", 0)):
            if isinstance(node, ast.Raise) and node.exc is not None:
                yield from self._raised(node)
            elif isinstance(node, ast.Call) and ast.unparse(node.func) == "warnings.warn":
                yield from self._said("UserWarning", node.args[0], node)

    def _said(self, kind: str, value: ast.expr, node: ast.Raise | ast.Call) -> Iterator[Message]:
        for text in self._texts(value, node):
            once = re.sub(r"(⟨[^⟩]*⟩)( \1)+", r"\1", " ".join(text.split()))  # of a pair of a name and its shape
            yield Message(kind, once, self.module, node.lineno)

    def _raised(self, node: ast.Raise) -> Iterator[Message]:
        exception = node.exc
        if not isinstance(exception, ast.Call):
            if _is_signal(exception) or _is_kept(exception):
                return
            if _root(exception) not in self._caught(node):
                raise self._lost(node)
            return  # re-raises an error of another library
        name = ast.unparse(exception.func)
        if name.startswith("_"):
            return  # private: caught within the library
        kind = "OSError" if name.startswith("type(") else name.rpartition(".")[2]
        if not exception.args:
            raise self._lost(node)
        passed_on = exception.args[-1]
        if (
            isinstance(passed_on, ast.Call)
            and ast.unparse(passed_on.func) == "str"
            and _root(passed_on.args[0]) in self._caught(node)
        ):
            return
        yield from self._said(kind, passed_on, node)

    def _texts(self, value: ast.expr, node: ast.AST) -> list[str]:
        """Return all values that an expression of text can have."""
        match value:
            case ast.Constant(str(text)):
                return [text]
            case ast.JoinedStr(parts):
                return ["".join(pieces) for pieces in product(*(self._pieces(part, node) for part in parts))]
            case ast.BinOp(left, ast.Add(), right):
                return ["".join(pair) for pair in product(self._texts(left, node), self._texts(right, node))]
            case ast.IfExp(_, yes, no):
                return [*self._texts(yes, node), *self._texts(no, node)]
            case ast.Subscript(ast.Dict(_, values), _):
                return [text for each in values for text in self._texts(each, node)]
            case ast.Name(name) if assigned := self._assigned(name, node):
                return [text for each, place in assigned for text in self._texts(each, place)]
            case ast.Call(ast.Name(name) | ast.Attribute(_, name)) if name in self.functions:
                return [text for function in self.functions[name] for text in self._returned(function)]
        raise self._lost(node)

    def _pieces(self, part: ast.expr, node: ast.AST) -> list[str]:
        """Return the values of a part of an f-string, or its placeholder."""
        if isinstance(part, ast.Constant):
            return [part.value]
        value = part.value if isinstance(part, ast.FormattedValue) else part
        if isinstance(value, ast.Name | ast.IfExp):
            with suppress(ValueError):
                texts = self._texts(value, node)
                if not any("⟨…⟩" in text for text in texts):
                    return texts
        return [f"⟨{_words(value)}⟩"]

    def _assigned(self, name: str, node: ast.AST) -> list[tuple[ast.expr, ast.AST]]:
        """Return the values assigned to a name, with their places: in the function, in the module, or as an argument."""
        for scope in (self._function(node), self.tree):
            inside = ast.walk(scope) if isinstance(scope, _Function) else iter(getattr(scope, "body", ()))
            found = [each.value for each in inside if isinstance(each, ast.Assign) and _names(each.targets) == {name}]
            if found:
                return [] if any(_reads(value, name) for value in found) else [(value, node) for value in found]
        return self._given(name, self._function(node))

    def _given(self, name: str, function: _Function | None) -> list[tuple[ast.expr, ast.AST]]:
        """Return the arguments passed to a private function, with their places: only this file calls it."""
        names = [each.arg for each in function.args.args] if function else []
        if function is None or name not in names or not function.name.startswith("_") or names[0] == "self":
            return []
        calls = [
            each for each in ast.walk(self.tree) if isinstance(each, ast.Call) and ast.unparse(each.func) == function.name
        ]
        given = [(value, call) for call in calls for value in call.args[names.index(name) :][:1] if not _reads(value, name)]
        return given if len(given) == len(calls) else []

    def _returned(self, function: _Function) -> list[str]:
        found = [node for node in ast.walk(function) if isinstance(node, ast.Return) and node.value is not None]
        return [text for node in found if node.value is not None for text in self._texts(node.value, node)]

    def _function(self, node: ast.AST) -> _Function | None:
        while node in self.parents:
            node = self.parents[node]
            if isinstance(node, _Function):
                return node
        return None

    def _caught(self, node: ast.AST) -> set[str]:
        """Return the names of the errors that the code around a node has caught."""
        found = set()
        while node in self.parents:
            node = self.parents[node]
            if isinstance(node, ast.ExceptHandler) and node.name:
                found.add(node.name)
        return found

    def _lost(self, node: ast.AST) -> ValueError:
        line = getattr(node, "lineno", 0)
        return ValueError(
            f"captum_softcam/{self.module}:{line} raises an error whose text docs/_ext/raised.py cannot follow: "
            f"{ast.unparse(node)}. Write it as a string or an f-string."
        )


def _is_signal(exception: ast.expr | None) -> bool:
    """Check whether a class of the library is raised without words: a signal, which is caught within the library."""
    if isinstance(exception, ast.IfExp):
        return _is_signal(exception.body) and _is_signal(exception.orelse)
    return isinstance(exception, ast.Name) and exception.id[0].isupper() and not hasattr(builtins, exception.id)


def _is_kept(exception: ast.expr | None) -> bool:
    """Check whether an object raises an error that it caught before, as in ``raise self._first_error``."""
    return isinstance(exception, ast.Attribute) and _root(exception) == "self" and exception.attr.endswith("_error")


def _root(value: ast.expr | None) -> str:
    while isinstance(value, ast.Attribute):
        value = value.value
    return value.id if isinstance(value, ast.Name) else ""


def _names(targets: list[ast.expr]) -> set[str]:
    return {target.id for target in targets if isinstance(target, ast.Name)}


def _reads(value: ast.expr, name: str) -> bool:
    return any(isinstance(each, ast.Name) and each.id == name for each in ast.walk(value))


def _words(value: ast.expr) -> str:
    """Describe the value of a placeholder."""
    if not any(isinstance(each, ast.Name) for each in ast.walk(value)):
        return ast.unparse(value)
    match value:
        case ast.Name(name):
            return name.strip("_").replace("_", " ").lower()
        case ast.Attribute(ast.Call(ast.Name("type"), [of]), "__name__"):
            return f"type of {_words(of)}"
        case ast.Attribute(ast.Name("self" | "options"), name):
            return name.strip("_").replace("_", " ")
        case ast.Attribute(of, "__name__" | "name" | "value"):
            return _words(of)
        case ast.Attribute(of, name):
            return f"{name.strip('_').replace('_', ' ')} of {_words(of)}"
        case ast.Subscript(of, ast.Slice()):
            return _words(of)
        case ast.Subscript(_, ast.Constant(str(name))):
            return name.replace("_", " ")
        case ast.Subscript(of, _):
            return _words(of)
        case ast.Call(ast.Name("closest")):
            return "the closest names"
        case ast.Call(ast.Name("len"), [of]):
            return f"number of {_words(of)}"
        case ast.Call(ast.Name("map"), [_, of]):
            return _words(of)
        case ast.Call(ast.Name(name), [of, *_]) if name in _TRANSPARENT:
            return _words(of)
        case ast.Call(ast.Name(name)):
            return name.strip("_").replace("_", " ")
        case ast.Call(ast.Attribute(_, "get"), [ast.Constant(str(name)), *_]):
            return name
        case ast.Call(ast.Attribute(ast.Constant() | ast.Name("dict" | "math" | "self"), _), [of, *_]):
            return _words(of)
        case ast.Call(ast.Attribute(of, _)):
            return _words(of)
        case ast.Starred(of) | ast.GeneratorExp(of):
            return _words(of)
        case ast.BoolOp(_, [of, *_]):
            return _words(of)
        case ast.BinOp(ast.Constant(), _, of) | ast.BinOp(of, _, _):
            return _words(of)
        case ast.IfExp(_, yes, no):
            return f"{_words(yes)} or {_words(no)}"
    return "…"
