"""Measure accuracy and maps of SoftCAM models and of a black box on photographs of PASCAL VOC 2007, with intervals.

    python benchmarks/studies/voc.py --data DIR

Per seed: EfficientNet-Lite0 is fine-tuned from ImageNet on the list ``train`` (20 classes, of which a photograph shows any
number). From it, tuned further for the same time, come the black box and SoftCAM models without penalty, with lasso and
elastic net, at output strides 32 and 16. The weights of the penalties are chosen on a fifth of ``train`` with the first
seed. Average precision and maps are measured on the list ``test``: the pointing game as TorchRay plays it, all other
localisation metrics, and on the first samples deletion, insertion, and ADCC with its parts.

Finished steps are kept in the work folder, from which an interrupted run resumes.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from typing import NamedTuple

import torch
from study import Finding, Results, options_of

NAME = "voc"
SEEDS = (0, 1, 2)
CLASSES = 20
FOLD = 5  # every fifth photograph of ``train`` chooses epochs and penalties
KEPT = 0.01  # mean average precision that a penalty may cost
COMPETITIVE, SAME = 0.02, 1e-3  # differences of scores
PRESENCE = 10.0  # weight of a class that is present; most are absent, and all logits would sink below 0
LEARNING_RATE = 0.05
TOLERANCE = 15  # pixels from the box, in the size of the photograph
BATCH = 25
UNPENALISED = (0.0, 0.0)
GRID = {
    "lasso": [(1e-4, 0.0), (3e-4, 0.0), (1e-3, 0.0)],
    "elastic net": [(1e-4, 1e-5), (3e-4, 3e-5), (1e-3, 1e-4)],
}


class Kind(NamedTuple):
    """A model of the study: its title, its output stride (None for the black box), and the name of its penalty."""

    title: str
    output_stride: int | None
    penalty: str = ""


KINDS = {
    "black_box": Kind("black box", None),
    "lasso_32": Kind("SoftCAM, lasso, stride 32", 32, "lasso"),
    "elastic_32": Kind("SoftCAM, elastic net, stride 32", 32, "elastic net"),
    "none_16": Kind("SoftCAM, no penalty, stride 16", 16),
    "chosen_16": Kind("SoftCAM, chosen penalty, stride 16", 16, "chosen"),
}
CHEAP = ("soft_cam", "grad_cam", "recipro_cam")  # maps of the black box for all samples
SLOW = ("occlusion", "integrated_gradients")
CONTROLS = ("centred_gaussian", "edge_map", "random")

LOCALISATION = {
    "relevance_mass_accuracy": "relevance mass ↑",
    "relevance_rank_accuracy": "relevance rank ↑",
    "iou_at_best_threshold": "IoU ↑",
    "activation_precision": "precision ↑",
    "activation_sensitivity": "sensitivity ↑",
}
POINTING = {
    "pointing_15": "pointing, 15 px ↑",
    "pointing_difficult": "of these difficult ↑",
    "pointing_game": "pointing ↑",
}
FAITHFULNESS = {
    "deletion": "deletion ↓",
    "insertion": "insertion ↑",
    "adcc": "ADCC ↑",
    "average_drop": "average drop ↓",
    "coherency": "coherency ↑",
    "map_complexity": "complexity ↓",
}
LOWER = {"deletion", "average_drop", "map_complexity"}
"""Metrics whose differences change their sign, so that above 0 is better."""

NATIVE, GRAD_CAM, BELL = "soft_cam", "black_box: grad_cam", "centred_gaussian"
PAIRS = {
    "SoftCAM 32 against Grad-CAM": ("chosen_32: soft_cam", GRAD_CAM),
    "SoftCAM 16 against Grad-CAM": ("chosen_16: soft_cam", GRAD_CAM),
    "SoftCAM 16 against Occlusion": ("chosen_16: soft_cam", "black_box: occlusion"),
    "SoftCAM 16 against Integrated Gradients": ("chosen_16: soft_cam", "black_box: integrated_gradients"),
    "lasso against none, 32": ("lasso_32: soft_cam", "black_box: soft_cam"),
    "elastic net against none, 32": ("elastic_32: soft_cam", "black_box: soft_cam"),
    "chosen penalty against none, 16": ("chosen_16: soft_cam", "none_16: soft_cam"),
    "16 against 32, no penalty": ("none_16: soft_cam", "black_box: soft_cam"),
    "16 against 32, chosen penalty": ("chosen_16: soft_cam", "chosen_32: soft_cam"),
    "CAM against Grad-CAM": ("black_box: soft_cam", GRAD_CAM),
    "CAM against Occlusion": ("black_box: soft_cam", "black_box: occlusion"),
    "CAM against Integrated Gradients": ("black_box: soft_cam", "black_box: integrated_gradients"),
    "Recipro-CAM against CAM": ("black_box: recipro_cam", "black_box: soft_cam"),
    "Grad-CAM against the bell": (GRAD_CAM, BELL),
    "Recipro-CAM against the bell": ("black_box: recipro_cam", BELL),
    "SoftCAM 16 against the bell": ("chosen_16: soft_cam", BELL),
}
"""Pairs of maps that are compared, sample by sample."""


def _findings() -> Iterator[Finding]:
    """Yield the cells that decide the claims."""
    for stride in (32, 16):
        words = f"mean average precision, stride {stride}"
        yield Finding("softcam-accuracy", "accuracy_differences", f"chosen_{stride}", "map", "kept", KEPT, words)
        for column in ("pointing_15", "activation_precision"):
            row = f"SoftCAM {stride} against Grad-CAM"
            yield _finding("softcam-localisation", row, column, f"stride {stride}, Grad-CAM")
        for column in ("deletion", "insertion"):
            row = f"SoftCAM {stride} against Grad-CAM"
            yield _finding("softcam-faithful", row, column, f"stride {stride}, Grad-CAM")
    for row in ("lasso against none, 32", "elastic net against none, 32", "chosen penalty against none, 16"):
        yield _finding("softcam-penalty", row, "activation_precision", row.replace(" against none,", ", stride"))
    for penalty in ("no penalty", "chosen penalty"):
        yield _finding("finer-grid", f"16 against 32, {penalty}", "activation_precision", penalty)
    for column in ("pointing_15", "activation_precision"):
        words = "CAM, Grad-CAM (the same map but for the bias)"
        found = _finding("conversion-competitive", "CAM against Grad-CAM", column, words)
        yield found._replace(test="kept", margin=COMPETITIVE)
    for method in ("Occlusion", "Integrated Gradients"):
        for column in ("pointing_game", "activation_precision"):
            words = f"CAM, {method}, few pairs"
            found = _finding("conversion-competitive", f"CAM against {method}", column, words)
            yield found._replace(test="kept", margin=COMPETITIVE)
    found = _finding("recipro-is-cam", "Recipro-CAM against CAM", "pointing_15", "Recipro-CAM, CAM")
    yield found._replace(test="same", margin=SAME)
    for method in ("Grad-CAM", "Recipro-CAM", "SoftCAM 16"):
        for column in ("pointing_15", "relevance_mass_accuracy"):
            yield _finding("beats-controls", f"{method} against the bell", column, method)


def _finding(claim: str, row: str, column: str, what: str) -> Finding:
    title = {**POINTING, **LOCALISATION, **FAITHFULNESS}[column].rstrip(" ↑↓")
    return Finding(claim, "differences", row, column, words=f"{title}, {what}")


FINDINGS = tuple(_findings())


def coarse(penalty: str) -> str:
    """Return the name of the model with a penalty at stride 32."""
    return f"{penalty.split()[0]}_32"


def main() -> None:
    """Run what is missing, then write results and page."""
    options = _options()
    torch.set_num_threads(options.threads)
    if not options.page:
        # These load the packages of training and comparison, which the ledger and the page do without.
        from voc_results import gather
        from voc_steps import Study

        study = Study(options)
        gather(study, study.run()).save(options.results)
    from voc_page import write  # which in turn reads this script

    print(write(Results.load(NAME, options.results), options.docs))


def _options() -> argparse.Namespace:
    parser = options_of(NAME, __doc__)
    parser.add_argument("--seeds", type=int, nargs="+", default=list(SEEDS))
    parser.add_argument("--base-epochs", type=int, default=3, help="epochs that all models of a seed share")
    parser.add_argument("--epochs", type=int, default=2, help="epochs of each model after them")
    parser.add_argument("--faithful-samples", type=int, default=20, help="for metrics that run the model")
    parser.add_argument("--slow-samples", type=int, default=6, help="of them, for Occlusion and Integrated Gradients")
    return parser.parse_args()


if __name__ == "__main__":
    main()
