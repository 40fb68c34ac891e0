"""A comparison in a folder: tables as CSV, the manifest as JSON, a few maps as NPZ; each file whole or not there.

The manifest is written last and holds the digest of every other file, so that a folder that was cut off, or mixes two
comparisons, is not taken for a whole one.
"""

from __future__ import annotations

import csv
import hashlib
import json
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import pandas as pd

from captum_softcam._files import replacing
from captum_softcam.evaluation.example import Example, pack_examples, unpack_examples

__all__ = ["FORMAT", "read_folder", "write_folder"]

FORMAT = 1
"""The format of the folder."""

_TABLES = ("scores", "costs", "curves", "failures")
_REQUIRED = ("scores.csv", "costs.csv")
_FILES = frozenset((*(f"{name}.csv" for name in _TABLES), "examples.npz"))
_WORDS = ("sample", "method", "metric", "error")  # columns that hold text, even where it reads like a number

_SURROGATES: Any = "surrogatepass"  # which pandas hands on, and its stubs do not know

_PANDAS = tuple(map(int, pd.__version__.split(".")[:2]))
# from 3.1 on pandas always reads every digit, and refuses the word
_EVERY_DIGIT = {} if _PANDAS >= (3, 1) else {"float_precision": "round_trip"}


def write_folder(
    folder: Path, tables: Mapping[str, pd.DataFrame], manifest: Mapping[str, Any], examples: list[Example]
) -> None:
    """Write tables by name (those with rows, and the scores and costs), examples and manifest; see ``Comparison.save``."""
    if folder.exists() and not folder.is_dir():
        raise NotADirectoryError(f"'{folder}' is a file; a comparison is saved into a folder, choose another name.")
    folder.mkdir(parents=True, exist_ok=True)
    content = json.loads(json.dumps(manifest))  # fails before anything is written
    written = [name for name in _TABLES if f"{name}.csv" in _REQUIRED or len(tables[name])]
    writers: dict[str, Callable[[BinaryIO], None]] = {f"{name}.csv": partial(_write_table, tables[name]) for name in written}
    if examples:
        writers["examples.npz"] = partial(_write_examples, examples)
    for name, write in writers.items():
        with replacing(folder / name) as file:
            write(file)
    files = {name: _fingerprint(folder / name) for name in writers}
    with replacing(folder / "manifest.json") as file:
        file.write((json.dumps({**content, "format": FORMAT, "files": files}, indent=2) + "\n").encode("ascii"))
    for name in _FILES.difference(files):  # of an earlier comparison in this folder
        (folder / name).unlink(missing_ok=True)


def _write_table(table: pd.DataFrame, file: BinaryIO) -> None:
    """As CSV with every text in quotes; halves of surrogate pairs, as in names of files that are not UTF-8, come back."""
    table.to_csv(
        file,
        index=False,
        mode="wb",
        quoting=csv.QUOTE_NONNUMERIC,
        lineterminator="\n",
        encoding="utf-8",
        errors=_SURROGATES,
    )


def _fingerprint(path: Path) -> dict[str, Any]:
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while block := file.read(2**20):
            digest.update(block)
    return {"bytes": path.stat().st_size, "sha256": digest.hexdigest()}


def read_folder(folder: Path) -> tuple[dict[str, pd.DataFrame], dict[str, Any], list[Example]]:
    """Tables by name, manifest and examples of a folder; see ``Comparison.load``."""
    manifest = _read_manifest(folder)
    files = manifest.pop("files")
    del manifest["format"]
    for name in dict.fromkeys((*_REQUIRED, *files)):
        _check(folder / name, files.get(name))
    tables = {name: _read_table(folder / f"{name}.csv") for name in _TABLES if f"{name}.csv" in files}
    return tables, manifest, _read_examples(folder / "examples.npz") if "examples.npz" in files else []


def _write_examples(examples: list[Example], file: BinaryIO) -> None:
    np.savez_compressed(file, allow_pickle=False, **pack_examples(examples))


def _read_examples(path: Path) -> list[Example]:
    with np.load(path, allow_pickle=False) as arrays:
        return unpack_examples(arrays)


def _read_manifest(folder: Path) -> dict[str, Any]:
    path = folder / "manifest.json"
    if not path.is_file():
        raise FileNotFoundError(f"there is no comparison in '{folder}': 'manifest.json' is missing, which is written last.")
    try:
        manifest = json.loads(path.read_bytes())
    except ValueError as error:
        raise ValueError(f"'{path}' is not JSON ({error}); it was cut off or changed. Make the comparison anew.") from error
    found = manifest.get("format") if isinstance(manifest, dict) else None
    if not isinstance(found, int) or not isinstance(manifest.get("files"), dict):
        raise ValueError(f"'{path}' is not the manifest of a comparison: it names no format and files.")
    if found > FORMAT:
        raise ValueError(f"'{path}' has format {found}; this version reads up to {FORMAT}. Update captum-softcam.")
    return dict(manifest)


def _check(path: Path, expected: Mapping[str, Any] | None) -> None:
    """Raise if a file is not there, or not the one that the manifest was written for."""
    if expected is None or not path.is_file():
        raise FileNotFoundError(f"'{path}' is missing; the comparison is not whole. Copy the folder again, or make it anew.")
    size = path.stat().st_size
    if size < expected["bytes"]:
        raise ValueError(f"'{path}' is cut off: it has {size} of {expected['bytes']} bytes. Copy it again.")
    if _fingerprint(path) != expected:
        raise ValueError(f"'{path}' was changed since it was saved. Copy it again, or read it by itself.")


def _read_table(path: Path) -> pd.DataFrame:
    """Text stays text ("007", "NA", "1e5"), numbers keep every digit, an empty number is NaN."""
    options: dict[str, Any] = {"encoding": "utf-8", "encoding_errors": _SURROGATES}
    columns = list(pd.read_csv(path, nrows=0, **options).columns)
    text = {name: str for name in columns if name in _WORDS}
    empty = {name: [""] for name in columns if name not in _WORDS}
    options |= {"dtype": text, "keep_default_na": False, "na_values": empty, **_EVERY_DIGIT}
    return pd.DataFrame(pd.read_csv(path, **options))
