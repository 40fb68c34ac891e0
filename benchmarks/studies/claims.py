"""The claims that the studies test: those of the papers, and our own."""

from __future__ import annotations

from typing import NamedTuple


class Claim(NamedTuple):
    """A claim in a sentence.

    Args:
        text (str): the claim, in words that need no others beside them.
        source (str): key of ``SOURCES``.
        theirs (str): what the source found, with its figures as printed there. Default: none
    """

    text: str
    source: str
    theirs: str = ""


SOURCES = {  # by key of the paper in docs/references.bib, the title of its claims
    "djoumessi2026softcam": "SoftCAM",
    "djoumessi2026ttecam": "Conversion without training",
    "byun2024reciprocam": "Recipro-CAM",
    "README": "This package",
}

_MEDICAL = "three medical data sets, without seeds or intervals"
_TABLE = "ResNet-50, ImageNet"

CLAIMS = {
    "softcam-accuracy": Claim(
        "A SoftCAM model is as accurate as the black box (within one point).",
        "djoumessi2026softcam",
        f"kept ({_MEDICAL})",
    ),
    "softcam-localisation": Claim(
        "Evidence maps of SoftCAM localise better than post-hoc maps of the black box.",
        "djoumessi2026softcam",
        f"better ({_MEDICAL})",
    ),
    "softcam-penalty": Claim("A sparsity penalty makes evidence maps more precise.", "djoumessi2026softcam"),
    "softcam-faithful": Claim(
        "Evidence maps of SoftCAM are more faithful (deletion, insertion) than post-hoc maps of the black box.",
        "djoumessi2026softcam",
        "better; the logs of the released code do not show it everywhere (deletion)",
    ),
    "finer-grid": Claim("A finer grid (a smaller output stride) makes evidence maps more precise.", "djoumessi2026softcam"),
    "same-logits": Claim(
        "Conversion without training keeps the logits behind a global average pooling and a linear classifier.",
        "djoumessi2026ttecam",
        "predictive performance preserved",
    ),
    "converts-cnns": Claim(
        "Conversion without training keeps the logits of any CNN.",
        "djoumessi2026ttecam",
        '"pretrained black-box CNNs"',
    ),
    "conversion-competitive": Claim(
        "Maps of a model converted without training are as good as post-hoc maps of the black box (within 0.02).",
        "djoumessi2026ttecam",
        "competitive",
    ),
    "recipro-grad-adcc": Claim(
        "Recipro-CAM has a higher ADCC than Grad-CAM.", "byun2024reciprocam", f"80.84 and 75.27 ({_TABLE})"
    ),
    "recipro-score-adcc": Claim(
        "Recipro-CAM has a higher ADCC than Score-CAM.", "byun2024reciprocam", f"80.84 and 78.14 ({_TABLE})"
    ),
    "recipro-drop": Claim(
        "The average drop of Recipro-CAM is worse than that of Score-CAM.",
        "byun2024reciprocam",
        f"15.69 and 8.61 ({_TABLE})",
    ),
    "recipro-complexity": Claim(
        "Maps of Recipro-CAM are less complex than those of Grad-CAM.", "byun2024reciprocam", f"less ({_TABLE})"
    ),
    "recipro-gaussian": Claim("The Gaussian mask improves ADCC over keeping a single position.", "byun2024reciprocam"),
    "recipro-speed-grad": Claim(
        "At the last layer, Recipro-CAM is as fast as Grad-CAM (at most 1.1 times its time).",
        "byun2024reciprocam",
        '"at a similar rate" (abstract)',
    ),
    "recipro-speed-score": Claim(
        "At the last layer, Recipro-CAM is at least 148 times as fast as Score-CAM, counted in forwards.",
        "byun2024reciprocam",
        '"approximately 148 times" (abstract)',
    ),
    "recipro-is-cam": Claim(
        "Behind global average pooling and a linear classifier, Recipro-CAM of the logits is CAM, under every metric.",
        "README",
    ),
    "beats-controls": Claim("Maps of the network localise better than a bell in the middle of the picture.", "README"),
    "evidence-is-logit": Claim("Each logit of a converted model is the mean of its evidence map.", "README"),
    "recipro-exact": Claim(
        "Recipro-CAM computes what the whole network answers when one position is kept, for CNNs, transformers and volumes.",
        "README",
    ),
    "one-forward": Claim("Recipro-CAM costs about one forward (at most 1.1).", "README"),
    "comparison-cost": Claim("A comparison is faster than the same scores one by one.", "README"),
}
