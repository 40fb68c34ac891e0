"""The claims that the studies test: those of the two papers, of conversion without training, and of our own README."""

from __future__ import annotations

from typing import NamedTuple


class Claim(NamedTuple):
    """A claim in a sentence.

    Args:
        text (str): the claim.
        source (str): key of the paper in ``docs/references.bib``, or ``"README"``.
        theirs (str): the figures of the source, as printed there. Default: none
    """

    text: str
    source: str
    theirs: str = ""


CLAIMS = {
    "softcam-accuracy": Claim("A SoftCAM model is as accurate as the black box (within one point).", "djoumessi2026softcam"),
    "softcam-localisation": Claim(
        "Its evidence maps localise better than post-hoc maps of the black box.", "djoumessi2026softcam"
    ),
    "softcam-penalty": Claim("A sparsity penalty makes evidence maps more precise.", "djoumessi2026softcam"),
    "softcam-faithful": Claim(
        "Its evidence maps are more faithful (deletion, insertion) than post-hoc maps of the black box.",
        "djoumessi2026softcam",
    ),
    "finer-grid": Claim("A finer grid (a smaller output stride) makes evidence maps more precise.", "djoumessi2026softcam"),
    "same-logits": Claim("Conversion without training keeps the logits.", "djoumessi2026ttecam"),
    "recipro-grad-adcc": Claim(
        "Recipro-CAM has a higher ADCC than Grad-CAM.", "byun2024reciprocam", "80.84 and 75.27 (ResNet-50, ImageNet)"
    ),
    "recipro-score-adcc": Claim(
        "Recipro-CAM has a higher ADCC than Score-CAM.", "byun2024reciprocam", "80.84 and 78.14 (ResNet-50, ImageNet)"
    ),
    "recipro-drop": Claim(
        "Its average drop is worse than that of Score-CAM.", "byun2024reciprocam", "15.69 and 8.61 (ResNet-50, ImageNet)"
    ),
    "recipro-complexity": Claim("Its maps are less complex than those of Grad-CAM.", "byun2024reciprocam"),
    "recipro-gaussian": Claim("The Gaussian mask improves ADCC over keeping a single position.", "byun2024reciprocam"),
    "recipro-is-cam": Claim(
        "Behind global average pooling and a linear classifier, Recipro-CAM of the logits ranks methods like CAM.", "README"
    ),
    "beats-controls": Claim("Maps of the network localise better than a bell in the middle of the picture.", "README"),
}
