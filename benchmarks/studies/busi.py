"""Measure accuracy and maps of SoftCAM on 149 breast ultrasounds of BUSI, in five-fold cross-validation with three seeds.

    python benchmarks/studies/busi.py --data DIR

EfficientNet-Lite0 with the weights of ImageNet is fine-tuned as a black box, as a SoftCAM model with lasso, and as SoftCAM
models with a grid twice as fine. Images that look alike are in one fold. All models are measured on images that they have
not seen. Writes ``results/busi.json``, from this file the page and its figure, and keeps finished steps in the work folder,
from which an interrupted run resumes.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from functools import cached_property
from typing import Any, NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from busi_page import MAP_SCORES, NAME, PAIRS, findings, write
from fine_tuning import SIZE, STRIDE, Images, Recipe, fine_tuned, frozen_features, normalize
from study import Array, Interval, Results, Scores, Work, interval, options_of
from torch import Tensor, nn
from torchvision.transforms.v2.functional import gaussian_blur

from captum_softcam.data import ImageFolderSamples, Sample
from captum_softcam.evaluation import LayerExplainFunc
from captum_softcam.metrics.functional import (
    activation_precision,
    activation_sensitivity,
    area_under_curve,
    deletion_curve,
    insertion_curve,
    pointing_game,
    relevance_mass_accuracy,
    relevance_rank_accuracy,
)
from captum_softcam.softcam import ElasticNetEvidenceLoss, SoftCamModel, convert_to_softcam
from captum_softcam.softcam.scores import hoyer_sparsity, one_vs_rest_auc

__all__ = ["NAME", "findings", "main"]

FOLDS = 5
ALIKE = 0.89  # correlation of thumbnails: all pairs that show one view by eye are above, three that merely look alike also
RECIPE = Recipe("multiclass", epochs=6, batch_size=16, score="loss")
LASSO = (3e-4, 1e-3, 3e-3, 1e-2)  # for 49 cells; the sum over cells of a finer grid has more terms
LAYER = "bn2"  # the last layer with positions
STEPS = 8  # of the curves
FINE = 16  # the finer output stride
STRIDES = {"black_box": None, "lasso": STRIDE, "fine_lasso": FINE, "fine": FINE}
AT_LAYER = ("grad_cam", "recipro_cam", "score_cam")
SUBSET = {"occlusion": "occlusion_images", "score_cam": "score_cam_images"}  # methods with hundreds of forwards per map
CONTROLS = ("centred_gaussian", "edge_map", "random")
MAPS = {
    "black_box": ("soft_cam", "grad_cam", "recipro_cam", *CONTROLS, "occlusion", "score_cam"),
    "lasso": ("soft_cam", "random"),
    "fine": ("soft_cam",),
    "fine_lasso": ("soft_cam",),
}
CURVES = {  # maps whose deletion and insertion are measured; those of a finer grid take five times as long
    "black_box": ("grad_cam", "random", "occlusion", "score_cam"),
    "lasso": ("soft_cam", "random"),
}
LOWER_IS_BETTER = ("deletion",)


def main() -> None:
    """Run what is missing, write the results, and the page from them."""
    parser = options_of(NAME, __doc__)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument(
        "--fine-seeds", type=int, nargs="*", default=[0], help="of them, for the finer grid, which takes four times as long"
    )
    parser.add_argument("--models", nargs="+", choices=[*STRIDES], default=["black_box", "lasso", "fine_lasso"])
    parser.add_argument("--occlusion-images", type=int, default=16, help="with a lesion, for Occlusion")
    parser.add_argument("--score-cam-images", type=int, default=0, help="of them, for Score-CAM: 1,280 forwards each")
    options = parser.parse_args()
    if not options.page:
        torch.set_num_threads(options.threads)
        measured(Study(options)).save(options.results)
    write(Results.load(NAME, options.results), options.docs)


# Data -----------------------------------------------------------------------------------------------------------------


class Ultrasounds(NamedTuple):
    """The images of the study.

    Args:
        images (Tensor): (N, 3, 224, 224), in [0, 1].
        targets (Tensor): (N,), class numbers.
        masks (Tensor): (N, 1, 224, 224), bool; empty for normal images.
        names (list of str): one per image.
        views (list of int): images of the same view have the same number.
        classes (tuple of str): in the order of the logits.
        refused (list of str): what could not be read, and why.
    """

    images: Tensor
    targets: Tensor
    masks: Tensor
    names: list[str]
    views: list[int]
    classes: tuple[str, ...]
    refused: list[str]

    @property
    def lesions(self) -> list[int]:
        """Places of the images with a lesion."""
        return self.masks.flatten(1).any(1).nonzero().flatten().tolist()


def read_ultrasounds(folder: Any) -> Ultrasounds:
    """Read the images of BUSI as they lie on disk, without those that have a mask of another size."""
    samples = ImageFolderSamples(folder, size=SIZE)
    read: list[Sample] = []
    refused = []
    for place in range(len(samples)):
        try:
            read.append(samples[place])
        except ValueError as error:
            refused.append(f"{samples.identifier(place)}: {error}")
    images = torch.stack([sample.image for sample in read])
    empty = torch.zeros(1, SIZE, SIZE, dtype=torch.bool)
    masks = torch.stack([empty if sample.mask is None else sample.mask for sample in read])
    targets = torch.tensor([sample.target for sample in read])
    return Ultrasounds(images, targets, masks, [s.identifier for s in read], same_views(images), samples.classes, refused)


def same_views(images: Tensor, least: float = ALIKE) -> list[int]:
    """Give images (N, 3, H, W) numbers that chains of similar ones share: the place of the first of them."""
    thumbnails = F.interpolate(images.mean(1, keepdim=True), size=(32, 32), mode="area").flatten(1)
    alike = torch.corrcoef(thumbnails) >= least
    views = torch.arange(len(images))
    for _ in images:  # the lowest number spreads along the chains
        views = torch.where(alike, views, len(images)).amin(1)
    return [int(view) for view in views]


def folds_of(targets: Sequence[int], views: Sequence[int], seed: int, folds: int = FOLDS) -> list[int]:
    """Deal images to folds such that each has about as many of every class, and images of one view are together."""
    members: dict[int, list[int]] = {}
    for place in np.random.default_rng(seed).permutation(len(targets)):
        members.setdefault(views[place], []).append(int(place))
    counts = np.zeros((folds, max(targets) + 1))
    found = [0] * len(targets)
    for places in sorted(members.values(), key=len, reverse=True):
        classes = [targets[place] for place in places]
        fold = min(range(folds), key=lambda each: (counts[each, classes].sum(), counts[each].sum()))
        for place in places:
            counts[fold, targets[place]] += 1
            found[place] = fold
    return found


# Steps ----------------------------------------------------------------------------------------------------------------


class Study(Work):
    """The steps of the study.

    Args:
        options (Namespace): of the command line.
    """

    def __init__(self, options: argparse.Namespace) -> None:
        super().__init__(options.work)
        self.options = options

    @cached_property
    def data(self) -> Ultrasounds:
        """The images."""
        return read_ultrasounds(self.options.data / "busi" / "dataset")

    @cached_property
    def inputs(self) -> Tensor:
        """The images as inputs of the network."""
        return normalize(self.data.images).to(memory_format=torch.channels_last)

    @cached_property
    def features(self) -> Images:
        """The images as the frozen layers see them."""
        return frozen_features(self.data.images, self.data.targets)

    def folds(self, seed: int) -> Array:
        """Return the fold of every image, which depends on the seed and not on the model."""
        return np.array(folds_of(self.data.targets.tolist(), self.data.views, seed))

    def train(self, name: str, places: Array, seed: int, stride: int | None, weight: float) -> Any:
        """Fine-tune a model on some images; the first of them choose the epoch, because no others are left over."""
        train = self.features.part(places)
        penalty = ElasticNetEvidenceLoss(weight * ((stride or STRIDE) / STRIDE) ** 2, 0.0) if weight else None
        return fine_tuned(
            self,
            name,
            train=train,
            validation=train.part(range(RECIPE.batch_size)),
            classes=len(self.data.classes),
            seed=seed,
            recipe=RECIPE,
            output_stride=stride,
            penalty=penalty,
        )

    def model(self, name: str, seed: int, fold: int) -> Any:
        """Return the model of a fold, trained on all others."""
        weight = self.chosen if name.endswith("lasso") else 0.0
        return self.train(f"{name}-{seed}-{fold}", (self.folds(seed) != fold).nonzero()[0], seed, STRIDES[name], weight)

    @cached_property
    def chosen(self) -> float:
        """The weight of lasso: chosen on the images that the first fold of the first seed is trained on.

        Of the weights that lose no more than one validation image, that with the best precision.
        """
        found = {weight: self.choice(weight) for weight in (0.0, *LASSO)}
        least = found[0.0]["right"] - 1
        kept = [weight for weight in LASSO if found[weight]["right"] >= least]
        return max(kept or LASSO[:1], key=lambda weight: found[weight]["precision"])

    def choice(self, weight: float) -> Scores:
        """Score a weight of lasso on the second fold, trained on the third to the last, with the first seed."""
        seed = self.seeds[0]
        return self.step(f"choice-{weight:g}-{seed}", lambda: self._try(weight, seed))

    def _try(self, weight: float, seed: int) -> Scores:
        folds = self.folds(seed)
        model = self.train(f"choice-{weight:g}-{seed}", (folds > 1).nonzero()[0], seed, STRIDE, weight)
        places = (folds == 1).nonzero()[0].tolist()
        lesions = [place for place in places if place in self.data.lesions]
        maps = LayerExplainFunc("soft_cam").explain(model, self.inputs[lesions], self.data.targets[lesions])
        right = (logits_of(model, self.inputs[places]).argmax(1) == self.data.targets[places]).sum().item()
        precision = activation_precision(maps, self.data.masks[lesions]).nanmean().item()
        return {"right": right, "precision": precision, "images": len(places)}

    def views_of_lesions(self, count: int | None = None) -> list[int]:
        """Return the views of the first images with a lesion, so that images of one view count as one."""
        return [self.data.views[place] for place in self.data.lesions[:count]]

    def methods_of(self, name: str) -> list[str]:
        """Return the methods whose maps of a model are measured."""
        return [method for method in MAPS[name] if method not in SUBSET or getattr(self.options, SUBSET[method])]

    @property
    def seeds(self) -> list[int]:
        """All seeds."""
        return list(self.options.seeds)

    def seeds_of(self, name: str) -> list[int]:
        """Return the seeds that a model is measured with."""
        if name not in self.options.models:
            return []
        return list(self.options.fine_seeds) if STRIDES[name] == FINE else self.seeds

    def outputs(self, name: str, seed: int) -> Scores:
        """Compute what a model says of the images that it has not seen: logits, and what its evidence is like."""
        folds = self.folds(seed)
        logits = torch.zeros(len(folds), len(self.data.classes))
        sparsity, area = torch.zeros(2, len(folds))
        for fold in range(FOLDS):
            places = (folds == fold).nonzero()[0]
            evidence = evidence_of(self.model(name, seed, fold), self.inputs[places])
            logits[places] = evidence.mean((2, 3))
            sparsity[places], area[places] = hoyer_sparsity(evidence), self._lesion_area(evidence)
        right = (logits.argmax(1) == self.data.targets).int().tolist()
        return {"logits": logits.tolist(), "right": right, "sparsity": sparsity.tolist(), "area": area.tolist()}

    def _lesion_area(self, evidence: Tensor) -> Tensor:
        """Compute the fraction of cells with more evidence for a lesion than for a normal image."""
        normal = self.data.classes.index("normal")
        lesions = [each for each in range(len(self.data.classes)) if each != normal]
        return (evidence[:, lesions].amax(1) > evidence[:, normal]).float().mean((1, 2))

    def algebra(self, seed: int, fold: int = 0) -> Scores:
        """Compare a black box with itself after conversion, and with a SoftCAM model of the same grid trained alike."""
        black_box = self.model("black_box", seed, fold)
        places = (self.folds(seed) != fold).nonzero()[0]
        twin = self.train(f"plain-{seed}-{fold}", places, seed, STRIDE, 0.0)
        own, other, trained = (logits_of(model, self.inputs) for model in (black_box, with_evidence(black_box), twin))
        same = (own.argmax(1) == trained.argmax(1)).float().mean().item()
        return {
            "converted": (own - other).abs().max().item(),
            "trained": (own - trained).abs().max().item(),
            "same": same,
            "largest": own.abs().max().item(),
        }

    def maps(self, name: str, method: str, seed: int) -> Scores:
        """Score the maps of one method for the true class of the images with a lesion that the model has not seen."""
        lesions = self.data.lesions[: getattr(self.options, SUBSET[method]) if method in SUBSET else None]
        folds = self.folds(seed)
        scores = {score: torch.full((len(lesions),), torch.nan) for score in scores_of(f"{name}/{method}")}
        for fold in range(FOLDS):
            model = self.model(name, seed, fold)
            rows = [row for row, place in enumerate(lesions) if folds[place] == fold]
            for part in (rows[start : start + 16] for start in range(0, len(rows), 16)):
                found = self._map_scores(model, method, [lesions[row] for row in part], "deletion" in scores)
                for score, values in found.items():
                    scores[score][part] = values.float()
        return {score: values.tolist() for score, values in scores.items()}

    def _map_scores(self, model: nn.Module, method: str, places: list[int], curves: bool) -> dict[str, Tensor]:
        images, targets, masks = self.inputs[places], self.data.targets[places], self.data.masks[places]
        explain = LayerExplainFunc(method, LAYER if method in AT_LAYER else None)
        maps = explain.explain(with_evidence(model) if method == "soft_cam" else model, images, targets)
        with torch.no_grad():
            return localisation(maps, masks) | (faithfulness(model, images, maps, targets) if curves else {})


def localisation(maps: Tensor, masks: Tensor) -> dict[str, Tensor]:
    """Score maps against masks."""
    return {
        "precision": activation_precision(maps, masks),
        "sensitivity": activation_sensitivity(maps, masks),
        "pointing": pointing_game(maps, masks),
        "mass": relevance_mass_accuracy(maps, masks),
        "rank": relevance_rank_accuracy(maps, masks),
    }


def faithfulness(model: nn.Module, images: Tensor, maps: Tensor, targets: Tensor) -> dict[str, Tensor]:
    """Compute the areas under the deletion and insertion curves."""
    blurred = gaussian_blur(images, [39, 39], [10.0, 10.0])
    curves = {"deletion": deletion_curve, "insertion": insertion_curve}
    return {
        name: area_under_curve(curve(model, images, maps, targets, blurred, steps=STEPS)) for name, curve in curves.items()
    }


@torch.no_grad()
def logits_of(model: nn.Module, images: Tensor) -> Tensor:
    """Compute logits (N, K)."""
    return torch.cat([model(part) for part in images.split(16)])


@torch.no_grad()
def evidence_of(model: Any, images: Tensor) -> Tensor:
    """Compute the evidence (N, K, h, w) of a SoftCAM model, or of a black box by conversion."""
    model = with_evidence(model)
    return torch.cat([model.evidence_maps(part) for part in images.split(16)])


def with_evidence(model: nn.Module) -> SoftCamModel:
    """Return a SoftCAM model, or a black box converted to one without training."""
    return model if isinstance(model, SoftCamModel) else convert_to_softcam(model).eval()


# Results --------------------------------------------------------------------------------------------------------------


def measured(study: Study) -> Results:
    """Run all steps, and collect their intervals."""
    run(study)
    results = Results(NAME, settings_of(study))
    models = [name for name in STRIDES if study.seeds_of(name)]
    for name in models:
        add_accuracy(results, study, name)
        for method in study.methods_of(name):
            add_maps(results, study, f"{name}/{method}")
    for first, second in PAIRS:
        if all(each.partition("/")[0] in models for each in (first, second)):
            add_difference(results, study, first, second)
    add_gains(results, study)
    algebra = study.step("algebra", dict)
    change = algebra["converted"] / algebra["largest"]
    results.add("algebra", "converted - black_box", "logits", Interval(change, change, change, len(study.data.names)))
    covered = study.data.masks[study.data.lesions].flatten(1).double().mean(1)
    results.add("chance", "pointing", "pointing", interval(covered.numpy(), study.views_of_lesions()))
    return results


def run(study: Study) -> None:
    """Run what is missing, the finer grid last, because it takes longest."""
    for name in STRIDES:
        for seed in study.seeds_of(name):
            study.step(f"outputs-{name}-{seed}", lambda name=name, seed=seed: study.outputs(name, seed))
            for method in study.methods_of(name):
                step = f"maps-{name}-{method}-{seed}"
                study.step(step, lambda name=name, method=method, seed=seed: study.maps(name, method, seed))
    study.step("algebra", lambda: study.algebra(study.seeds[0]))


def add_accuracy(results: Results, study: Study, name: str) -> None:
    """Add accuracy, AUC, sparsity and extent of the evidence of a model, and the differences to the black box."""
    seeds, images = study.seeds_of(name), study.data.views
    own, black_box = (accuracy_of(study, each, seeds) for each in (name, "black_box"))
    for score, values in own.items():
        results.add("models", name, score, interval(values, images))
        if name != "black_box":
            results.add("differences", f"{name} - black_box", score, interval(values - black_box[score], images))
    sparsity, area = (study.values([f"outputs-{name}-{seed}" for seed in seeds], what) for what in ("sparsity", "area"))
    results.add("models", name, "sparsity", interval(sparsity, images))
    lesions = study.data.lesions
    normal = [place for place in range(len(images)) if place not in lesions]
    for kind, places in (("area, lesion", lesions), ("area, normal", normal)):
        results.add("models", name, kind, interval(area[:, places], [images[place] for place in places]))


def accuracy_of(study: Study, name: str, seeds: Sequence[int]) -> dict[str, Array]:
    """Return accuracy and AUC of a model as values (seeds, images), whose mean they are."""
    steps = [f"outputs-{name}-{seed}" for seed in seeds]
    logits = torch.from_numpy(study.values(steps, "logits"))
    return {
        "accuracy": study.values(steps, "right"),
        "auc": np.stack([auc_per_image(each, study.data.targets) for each in logits]),
    }


def auc_per_image(logits: Tensor, targets: Tensor) -> Array:
    """Return what each image adds to the mean AUC of one class against the rest: jackknife pseudo-values, (N,).

    Their mean is the AUC itself, because it is a mean over pairs of images.
    """

    def auc(kept: Tensor) -> float:
        return float(one_vs_rest_auc(logits[kept], targets[kept], "multiclass").mean())

    places = torch.arange(len(targets))
    whole = auc(places)
    return np.array([whole + (len(targets) - 1) * (whole - auc(places[places != place])) for place in places])


def add_maps(results: Results, study: Study, maps: str) -> None:
    """Add the scores of a model's maps, named ``MODEL/METHOD``."""
    for score in scores_of(maps):
        values = map_values(study, maps, score)
        results.add("maps", maps, score, interval(values, study.views_of_lesions(values.shape[1])))


def add_difference(results: Results, study: Study, first: str, second: str) -> None:
    """Add the paired differences of two maps; above 0 the first is better."""
    if any(each.partition("/")[2] not in study.methods_of(each.partition("/")[0]) for each in (first, second)):
        return
    seeds = [seed for seed in study.seeds_of(first.partition("/")[0]) if seed in study.seeds_of(second.partition("/")[0])]
    for score in (score for score in scores_of(first) if score in scores_of(second)):
        one, other = (map_values(study, maps, score, seeds) for maps in (first, second))
        count = min(one.shape[1], other.shape[1])  # methods with hundreds of forwards per map see the first images only
        values = (one[:, :count] - other[:, :count]) * (-1 if score in LOWER_IS_BETTER else 1)
        results.add("differences", f"{first} - {second}", score, interval(values, study.views_of_lesions(count)))


def add_gains(results: Results, study: Study) -> None:
    """Add by how much more lasso's map gains on a random map of its network than Grad-CAM on one of the black box."""
    for score in ("deletion", "insertion"):
        gains = [
            map_values(study, f"{name}/{method}", score) - map_values(study, f"{name}/random", score)
            for name, method in (("lasso", "soft_cam"), ("black_box", "grad_cam"))
        ]
        values = (gains[0] - gains[1]) * (-1 if score in LOWER_IS_BETTER else 1)
        results.add("differences", "gains", score, interval(values, study.views_of_lesions()))


def scores_of(maps: str) -> tuple[str, ...]:
    """Return the scores that are measured of maps named ``MODEL/METHOD``."""
    name, _, method = maps.partition("/")
    return MAP_SCORES if method in CURVES.get(name, ()) else MAP_SCORES[:-2]


def map_values(study: Study, maps: str, score: str, seeds: Sequence[int] | None = None) -> Array:
    """Return the scores (seeds, images) of maps named ``MODEL/METHOD``."""
    name, _, method = maps.partition("/")
    return study.values([f"maps-{name}-{method}-{seed}" for seed in seeds or study.seeds_of(name)], score)


def settings_of(study: Study) -> Scores:
    """Collect the numbers and names that the page shows."""
    data, options = study.data, study.options
    views = [data.views.count(view) for view in set(data.views)]
    algebra = study.step("algebra", dict)
    return {
        "images": len(data.names),
        "of_class": {name: int((data.targets == place).sum()) for place, name in enumerate(data.classes)},
        "lesions": len(data.lesions),
        "refused": len(data.refused),
        "groups": sum(size > 1 for size in views),
        "in_groups": sum(size for size in views if size > 1),
        "largest_group": max(views),
        "views": len(views),
        "views_of_lesions": len(set(study.views_of_lesions())),
        "alike": ALIKE,
        "folds": FOLDS,
        "seeds": len(study.seeds),
        "fine_seeds": len(options.fine_seeds),
        "epochs": RECIPE.epochs,
        "validation": RECIPE.batch_size,
        "steps": STEPS,
        "layer": LAYER,
        **{key: getattr(options, key) for key in SUBSET.values()},
        "lasso": study.chosen,
        "choice": {f"{weight:g}": study.choice(weight) for weight in (0.0, *LASSO)},  # by weight
        "algebra": {key: algebra[key] for key in ("converted", "trained", "same", "largest")},
        "hours": study.hours,
    }


if __name__ == "__main__":
    main()
