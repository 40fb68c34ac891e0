"""Read and write a comparison in a folder: tables as CSV, the manifest as JSON, example maps as NPZ.

The manifest is written last and contains a digest of every file, itself included, so that incomplete folders and mixtures of
two comparisons are detected.
"""

from __future__ import annotations

import csv
import hashlib
import json
import os
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import pandas as pd

from captum_softcam._files import read_json, replacing, write_json
from captum_softcam._names import quoted, shown
from captum_softcam.evaluation.example import Example, pack_examples, unpack_examples

__all__ = ["FORMAT", "read_folder", "write_folder"]

FORMAT = 2
"""Version of the folder's format; since 2 the manifest contains a digest of itself."""

_TABLES = ("scores", "costs", "curves", "failures", "samples", "performance", "probes")
_ANEW = "Copy the folder again, or make the comparison anew"
_REQUIRED = ("scores.csv", "costs.csv")
_FILES = frozenset((*(f"{name}.csv" for name in _TABLES), "examples.npz"))
_TEXT = (
    "sample",
    "probe",
    "method",
    "metric",
    "error",
    "sha256",
    "group",
    "class",
)  # columns of text, even if it looks like a number

_PANDAS = tuple(map(int, pd.__version__.split(".")[:2]))
# pandas 3.1 always reads every digit, and has removed the option.
_EVERY_DIGIT = {} if _PANDAS >= (3, 1) else {"float_precision": "round_trip"}


def write_folder(
    folder: Path, tables: Mapping[str, pd.DataFrame], manifest: Mapping[str, Any], examples: list[Example]
) -> None:
    """Write tables (scores, costs, and others with rows), examples and manifest; see ``Comparison.save``."""
    if folder.exists() and not folder.is_dir():
        raise NotADirectoryError(f"'{shown(folder)}' is a file; a comparison is saved into a folder, choose another name.")
    folder.mkdir(parents=True, exist_ok=True)
    json.dumps(manifest)  # raises TypeError before anything is written
    written = [name for name in _TABLES if f"{name}.csv" in _REQUIRED or len(tables[name])]
    writers: dict[str, Callable[[BinaryIO], None]] = {f"{name}.csv": partial(_write_table, tables[name]) for name in written}
    if examples:
        writers["examples.npz"] = partial(_write_examples, examples)
    for name, write in writers.items():
        with replacing(folder / name) as file:
            write(file)
    files = {name: _fingerprint(folder / name) for name in writers}
    write_json(folder / "manifest.json", {**manifest, "format": FORMAT, "files": files})
    # Left by an earlier comparison; removed last, because its manifest needs them until it is replaced.
    for name in _FILES.difference(files):
        (folder / name).unlink(missing_ok=True)


def _write_table(table: pd.DataFrame, file: BinaryIO) -> None:
    """Write a table as CSV with all text in quotes, lone surrogates escaped."""
    table.to_csv(
        file,
        index=False,
        mode="wb",
        quoting=csv.QUOTE_NONNUMERIC,
        # The default is that of the operating system, under which equal tables would have different digests.
        lineterminator="\n",
        encoding="utf-8",
        errors="backslashreplace",
    )


def _fingerprint(path: Path) -> dict[str, Any]:
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while block := file.read(2**20):
            digest.update(block)
    return {"bytes": path.stat().st_size, "sha256": digest.hexdigest()}


def read_folder(folder: Path) -> tuple[dict[str, pd.DataFrame], dict[str, Any], list[Example]]:
    """Read tables by name, manifest and examples of a folder; see ``Comparison.load``."""
    manifest = _read_manifest(folder)
    files = manifest.pop("files")
    del manifest["format"]
    for name in dict.fromkeys((*_REQUIRED, *_FILES.intersection(files))):
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
    if not os.path.isfile(path):
        raise FileNotFoundError(
            f"there is no comparison in '{shown(folder)}': 'manifest.json' is missing, which is written last."
        )
    manifest = read_json(path, _ANEW, sealed=lambda content: content.get("format") in range(2, FORMAT + 1))
    found, files = manifest.get("format"), manifest.get("files")
    if not isinstance(found, int) or not isinstance(files, dict):
        raise ValueError(f"'{shown(path)}' is not the manifest of a comparison: it names no format and files.")
    if found > FORMAT:
        raise ValueError(
            f"'{shown(path)}' has format {quoted(found)}; this version reads up to {FORMAT}. Update captum-softcam."
        )
    return manifest


def _check(path: Path, expected: Mapping[str, Any] | None) -> None:
    """Raise an error if a file is missing, or is not the one in the manifest."""
    name = shown(path)
    if expected is None or not path.is_file():
        raise FileNotFoundError(f"'{name}' is missing; the comparison is not whole. Copy the folder again, or make it anew.")
    found = _fingerprint(path)
    if found == expected:
        return
    if isinstance(expected, dict) and found["bytes"] < expected.get("bytes", 0):
        raise ValueError(f"'{name}' is cut off: it has {found['bytes']} of {expected['bytes']} bytes. Copy it again.")
    raise ValueError(f"'{name}' was changed since it was saved. Copy it again, or read it by itself.")


def _read_table(path: Path) -> pd.DataFrame:
    """Read a table: text stays text ("007", "NA", "1e5"), numbers keep every digit, an empty number is NaN."""
    options: dict[str, Any] = {"encoding": "utf-8"}
    # The header is read first, because pandas takes the strings that mean NaN for each column by its name.
    columns = list(pd.read_csv(path, nrows=0, **options).columns)
    text = {name: str for name in columns if name in _TEXT}
    empty = {name: [""] for name in columns if name not in _TEXT}
    options |= {"dtype": text, "keep_default_na": False, "na_values": empty, **_EVERY_DIGIT}
    return pd.DataFrame(pd.read_csv(path, **options))
