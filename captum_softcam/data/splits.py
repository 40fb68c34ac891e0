"""The split of a training into images to train and to validate on: written with the run, and compared on resuming."""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from captum_softcam._files import write_text
from captum_softcam._names import listed, shown

if TYPE_CHECKING:
    from captum_softcam.data.labelled import LabelledImages

__all__ = ["refuse_other_split", "write_split"]

Rows = dict[str, tuple[str, str]]


def write_split(out: Path, train: LabelledImages, validation: LabelledImages) -> None:
    """Write ``split.csv``, a table that :meth:`LabelledImages.from_csv` reads with ``allow_outside=True``.

    Args:
        out (Path): folder of the run.
        train (LabelledImages): images to train on.
        validation (LabelledImages): images to validate on.

    Raises:
        OSError: if it cannot be written.
    """
    text = io.StringIO(newline="")
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(("path", "label", "split"))
    writer.writerows((path, *entry) for path, entry in _rows(train, validation).items())
    write_text(out / "split.csv", text.getvalue())


def refuse_other_split(out: Path, digests: Mapping[str, str], train: LabelledImages, validation: LabelledImages) -> None:
    """Raise ValueError unless the split is the one that the run was started with.

    A random split of other images would move images between training and validation.

    Args:
        out (Path): folder of the run.
        digests (mapping): digests of the sets ``training`` and ``validation`` at the start.
        train (LabelledImages): images to train on now.
        validation (LabelledImages): images to validate on now.

    Raises:
        ValueError: if an image is missing or new, or in the other set.
    """
    if {"training": train.digest(), "validation": validation.digest()} == dict(digests):
        return
    raise ValueError(
        f"the images are not those that the run was started with: {_difference(out, _rows(train, validation))}. Some would "
        "change from one side of the split to the other; put them back as they were, or train anew with another --out."
    )


def _rows(train: LabelledImages, validation: LabelledImages) -> Rows:
    """Return labels and split by the absolute path of the file."""
    return {
        str(file.absolute()): ("|".join(data.classes[k] for k in entry), split)
        for data, split in ((train, "train"), (validation, "val"))
        for file, entry in zip(data.files, data.labels, strict=True)
    }


def _difference(out: Path, now: Rows) -> str:
    """Describe which images are missing, new or changed, compared with the table of the run."""
    try:
        with (out / "split.csv").open(newline="", encoding="utf-8") as file:
            before = {row["path"]: (row["label"], row["split"]) for row in csv.DictReader(file)}
    except (OSError, KeyError, ValueError, csv.Error):
        return f"'{shown(out / 'split.csv')}' cannot be read, which would tell the difference"
    changes = {
        "missing": [path for path in before if path not in now],
        "new": [path for path in now if path not in before],
    }
    if not any(changes.values()):
        changes["with another label or on the other side"] = [path for path in now if now[path] != before[path]]
    found = [f"{len(paths)} {what} ({listed(paths)})" for what, paths in changes.items() if paths]
    return ", ".join(found) or "their order is another"
