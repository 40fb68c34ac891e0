"""The two classifiers of retinal lesions that the package carries.

They were trained on :class:`captum_softcam.data.RetinalLesions` by ``benchmarks/softcam_study.py``: its first seed, with the
penalty that it chose. They serve as a demonstration: they have seen one photograph with painted lesions and know
nothing about patients.
"""

from __future__ import annotations

from pathlib import Path

from captum_softcam._names import listed, quoted
from captum_softcam.softcam.classifiers import Classifier

__all__ = ["EMBEDDED", "load_embedded"]

EMBEDDED = ("lesions_softcam", "lesions_black_box")
"""Names of the embedded classifiers, the SoftCAM model and the black box it is compared with."""

_FOLDER = Path(__file__).parent / "weights"


def load_embedded(name: str = "lesions_softcam") -> Classifier:
    """Load an embedded classifier, in eval mode, on the CPU.

    Args:
        name (str): ``"lesions_softcam"``, whose evidence maps decide, or ``"lesions_black_box"``, the pooled
            classifier it is compared with. Default: ``"lesions_softcam"``

    Returns:
        Classifier: its ``model`` takes images (N, 3, 160, 160) in [0, 1] and gives logits (N, 4).

    Raises:
        ValueError: on an unknown name.

    Example::

        >>> load_embedded().classes
        ('healthy', 'hard exudates', 'haemorrhages', 'cotton-wool spots')
    """
    if name not in EMBEDDED:
        raise ValueError(f"embedded model {quoted(name)} is unknown; expected one of {listed(map(repr, EMBEDDED))}.")
    return Classifier.load(_FOLDER / f"{name}.safetensors")
