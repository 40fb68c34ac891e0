"""Measure the maps of two ImageNet networks on photographs with boxes, and compare them with the Recipro-CAM paper's table.

    python benchmarks/studies/imagenet.py --data DIR

EfficientNet-Lite0 and EfficientNet-Lite2, as they were trained, explain the validation photographs of ``DIR/ILSVRC`` at
their last layer and at one before it. Every part of the study is a comparison of this package, kept in the work folder, from
which an interrupted run resumes. Expensive methods and metrics run on the first photographs only: their numbers are options.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import Any

import torch
from imagenet_page import write_results_page
from imagenet_tables import NAME, Parts, findings, tables_of
from study import Results, Scores, Work, options_of
from torch import Tensor, nn
from torch.utils.data import Subset

from captum_softcam.attr import LayerReciproCam, LayerSoftCam
from captum_softcam.data import ImageNetSamples
from captum_softcam.evaluation import Comparison, LayerExplainFunc, compare_methods
from captum_softcam.metrics import METRICS
from captum_softcam.softcam import Classifier, convert_to_softcam, load_classifier

__all__ = ["NAME", "findings", "main"]

NETWORKS = ("efficientnet_lite0", "efficientnet_lite2")
LAST, EARLIER = "bn2", "blocks.4"
SIDE = 500  # of most photographs, to which the tolerance of 15 pixels refers
TOLERANCE = 15
CONTROLS = ("centred_gaussian", "edge_map", "random")
LOCALISATION = ("pointing_game", "relevance_mass_accuracy", "relevance_rank_accuracy", "iou_at_best_threshold")
ADCC = ("adcc", "average_drop", "coherency", "map_complexity")
FAITHFULNESS = ("deletion", "insertion")
MASKS = ("one_hot", "gaussian", "gaussian_spread")
Methods = Mapping[str, Any]

COUNTS = {
    "fast": (100, 100),
    "probability": (100, 100),
    "faithful": (32, 16),
    "slow": (12, 4),
    "score_cam": (8, 0),
    "road": (8, 0),
}
"""Photographs by part of the study, for each network."""

PARTS = {
    "fast": "fast methods, localisation and ADCC",
    "probability": "Recipro-CAM of probabilities, localisation and ADCC",
    "faithful": "fast methods, deletion and insertion",
    "slow": "Occlusion, Integrated Gradients, and Recipro-CAM and Score-CAM at the layer before, all metrics but ROAD",
    "score_cam": "Score-CAM at the last layer, localisation and ADCC",
    "road": "fast methods, ROAD",
}


def main() -> None:
    """Run what is missing, then write results and page."""
    options = _options()
    if not options.page:
        torch.set_num_threads(options.threads)
        study = Study(options)
        for part in options.parts:
            for place, network in enumerate(options.networks):
                study.run(network, part, getattr(options, part)[place])
        if not options.keep:
            study.results().save(options.results)
    if not options.keep:
        write_results_page(Results.load(NAME, options.results), options.docs)


def _options() -> argparse.Namespace:
    parser = options_of(NAME, __doc__)
    parser.add_argument("--networks", nargs="+", default=NETWORKS, help="(default: %(default)s)")
    for part, numbers in COUNTS.items():
        words = f"photographs of each network: {PARTS[part]}; 0 leaves the part out (default: %(default)s)"
        parser.add_argument(f"--{part.replace('_', '-')}", type=int, nargs="+", default=numbers, metavar="N", help=words)
    parser.add_argument("--parts", nargs="+", choices=COUNTS, default=list(COUNTS), help="run only these")
    parser.add_argument("--keep", action="store_true", help="run the parts, and write neither results nor page")
    return parser.parse_args()


class Study(Work):
    """The comparisons of the study."""

    def __init__(self, options: argparse.Namespace) -> None:
        super().__init__(options.work)
        self.options = options

    def run(self, network: str, part: str, count: int) -> None:
        """Run a part of the study for a network, unless it has been run."""
        classifier = load_classifier(network)
        self.step(f"{network}-logits", lambda: self.logits(classifier))
        if count:
            self.step(f"{network}-{part}-{count}", lambda: self.compare(classifier, part, count))

    def samples(self, classifier: Classifier) -> ImageNetSamples:
        """Return the photographs, squeezed into the square of the network."""
        return ImageNetSamples(self.options.data / "ILSVRC", size=classifier.image_size)

    @torch.no_grad()
    def logits(self, classifier: Classifier) -> Scores:
        """Compare the logits of the network and of its conversion, over the range of the logits, per photograph."""
        samples, model = self.samples(classifier), classifier.model
        converted, differences = None, []
        for place in range(len(samples)):
            image = classifier.normalize(samples[place].image[None])
            converted = converted or convert_to_softcam(model, image)
            before, after = model(image)[0], converted(image)[0]
            differences.append(float((after - before).abs().max() / (before.max() - before.min())))
        return {"difference": differences}

    def compare(self, classifier: Classifier, part: str, count: int) -> Scores:
        """Run a comparison in its folder, and go on with it if it is there."""
        samples = self.samples(classifier)
        metrics = _metrics(part, classifier.image_size)
        folder = self.folder / f"comparison-{classifier.name}-{part}-{count}"
        compare_methods(
            classifier.model,
            Subset(samples, range(min(count, len(samples)))),
            METHODS[part](),
            metrics,
            layer=LAST,
            normalize=classifier.normalize,
            batch_size=20 if part in ("fast", "probability") else 4,
            examples=0,
            probes=8 if part in ("fast", "faithful") else 0,
            folder=folder,
            resume=folder.exists(),
        )
        return {"photographs": count}

    def parts(self, network: str) -> Parts:
        """Load the comparisons of a network."""
        counts = {part: getattr(self.options, part)[list(self.options.networks).index(network)] for part in COUNTS}
        found = {
            part: Comparison.load(self.folder / f"comparison-{network}-{part}-{count}")
            for part, count in counts.items()
            if count
        }
        return Parts(found, self.values([f"{network}-logits"], "difference")[0])

    def results(self) -> Results:
        """Put the tables of all networks together."""
        settings: Scores = {
            "hours": self.hours,
            "layers": [LAST, EARLIER],
            "tolerance": TOLERANCE,
            "side": SIDE,
            "networks": {},
        }
        results = Results(NAME, settings)
        for network in self.options.networks:
            tables_of(network, self.parts(network), results)
        return results


# Methods and metrics --------------------------------------------------------------------------------------------------


def recipro_probability(model: nn.Module, images: Tensor, targets: Tensor, *, layer: str, mask: str) -> Tensor:
    """Compute the map of the paper: probabilities, of which the smallest is 0, instead of differences of logits."""
    with_softmax = nn.Sequential(model, nn.Softmax(1))
    recipro_cam = LayerReciproCam(with_softmax, model.get_submodule(layer))
    maps: Tensor = recipro_cam.attribute(images, targets, mask=mask, relative=False)
    return maps - maps.amin((2, 3), keepdim=True)


def converted_evidence(model: nn.Module, images: Tensor, targets: Tensor) -> Tensor:
    """Compute the evidence of the converted network."""
    converted = convert_to_softcam(model, images[:1])
    maps: Tensor = LayerSoftCam(converted, converted.evidence).attribute(images, targets)
    return maps


def _fast_methods() -> Methods:
    return {
        "grad_cam": LayerExplainFunc("grad_cam", LAST),
        "class_activation_map": LayerExplainFunc("class_activation_map", LAST),
        "soft_cam": converted_evidence,
        **{f"recipro_{mask}": LayerExplainFunc("recipro_cam", LAST, mask=mask) for mask in MASKS},
        "grad_cam_earlier": LayerExplainFunc("grad_cam", EARLIER),
        **{name: name for name in CONTROLS},
    }


def _probability_methods() -> Methods:
    return {f"recipro_{mask}_softmax": partial(recipro_probability, layer=LAST, mask=mask) for mask in MASKS}


def _faithful_methods() -> Methods:
    """Return one of each group of methods whose maps are the same, so that the expensive metrics run once for it."""
    names = (
        "grad_cam",
        "recipro_gaussian",
        "recipro_one_hot_softmax",
        "recipro_gaussian_softmax",
        "grad_cam_earlier",
        *CONTROLS,
    )
    known = {**_fast_methods(), **_probability_methods()}
    return {name: known[name] for name in names}


def _slow_methods() -> Methods:
    return {
        "recipro_one_hot_earlier": LayerExplainFunc("recipro_cam", EARLIER),
        **{f"recipro_{mask}_softmax_earlier": partial(recipro_probability, layer=EARLIER, mask=mask) for mask in MASKS},
        "score_cam_earlier": LayerExplainFunc("score_cam", EARLIER),
        "integrated_gradients": "integrated_gradients",
        "occlusion": "occlusion",
    }


def _score_cam() -> Methods:
    return {"score_cam": LayerExplainFunc("score_cam", LAST)}


METHODS: dict[str, Callable[[], Methods]] = {
    "fast": _fast_methods,
    "probability": _probability_methods,
    "faithful": _faithful_methods,
    "road": _faithful_methods,
    "score_cam": _score_cam,
    "slow": _slow_methods,
}


def _metrics(part: str, size: int) -> Sequence[Any]:
    tolerant = replace(
        METRICS["pointing_game"],
        name="tolerant_pointing_game",
        title=f"Pointing game, {TOLERANCE} px",
        settings={"tolerance": TOLERANCE * size / SIDE},
    )
    cheap = [LOCALISATION[0], tolerant, *LOCALISATION[1:], *ADCC]
    more = {"faithful": FAITHFULNESS, "road": ["road"], "slow": [*cheap, *FAITHFULNESS]}
    return more.get(part, cheap)


if __name__ == "__main__":
    main()
