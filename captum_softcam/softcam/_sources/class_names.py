"""Names of the classes of a network: those of the user, in a list or a file, ImageNet's, or numbers."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

from captum_softcam._imagenet import IMAGENET_CLASSES, imagenet_names
from captum_softcam._names import PATH, listed, quoted, shown

__all__ = ["both_classes", "class_names", "named_by", "read_classes"]


def read_classes(path: str | Path) -> tuple[str, ...]:
    """Read a file with a class name per line, in the order of the logits; blank lines are left out.

    Raises:
        FileNotFoundError: if there is no such file.
        ValueError: if it is not text, or has no names.
    """
    if not os.path.isfile(path):
        raise FileNotFoundError(
            f"classes '{shown(path)}' is not a file; pass the names as a list, or a file with a name per line."
        )
    try:
        lines = Path(path).read_text(encoding="utf-8-sig").splitlines()
    except UnicodeDecodeError as error:
        raise ValueError(f"classes '{shown(path)}' is not a text file in UTF-8; expected a name per line.") from error
    names = tuple(line.strip() for line in lines if line.strip())
    if not names:
        raise ValueError(f"classes '{shown(path)}' is empty; expected a name per line, in the order of the logits.")
    return names


def named_by(outputs: int, scores: str) -> int:
    """Return the number of classes of ``outputs`` logits: one each, but two for the single logit of a sigmoid."""
    return 2 if outputs == 1 and scores == "sigmoid" else outputs


def both_classes(name: str) -> tuple[str, str]:
    """Return the names of both classes of a single logit, below and above 0, from the name of the second."""
    return f"not {name}", name


def class_names(
    given: Sequence[str] | str | Path | None, known: Sequence[str] | None, outputs: int, scores: str, what: str
) -> tuple[str, ...]:
    """Return a name for each logit, and two for the single logit of a sigmoid: of the classes below and above 0.

    Args:
        given (sequence of str, or path): names of the user, or a file of them.
        known (sequence of str): names that the network brings.
        outputs (int): number of logits.
        scores (str): how logits become scores.
        what (str): description of the network, for messages.

    Returns:
        tuple of str: ``given``, ``known``, the names of ImageNet for 1,000 logits, or the numbers of the classes. A single
        name of a single logit is that of the class above 0.

    Raises:
        FileNotFoundError: if ``given`` is not a file.
        ValueError: if there are more or fewer names than logits.
    """
    count = named_by(outputs, scores)
    if given is None:
        names = tuple(known or (imagenet_names() if outputs == IMAGENET_CLASSES else map(str, range(count))))
    else:
        names = read_classes(given) if isinstance(given, (str, Path)) else tuple(map(str, given))
    if (outputs, len(names), count) == (1, 1, 2):
        names = both_classes(names[0])
    if len(names) != count:
        raise ValueError(
            f"{what} has {outputs} logit{'s' * (outputs != 1)}, and {len(names)} class{'es' * (len(names) != 1)} "
            f"{'are' if len(names) != 1 else 'is'} named ({listed(map(quoted, names), PATH // 2)}); name one class per "
            "logit (--classes FILE), or train a new last layer for these classes: new_classifier, or captum-softcam train."
        )
    return names
