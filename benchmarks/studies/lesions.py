"""Measure accuracy, sparsity and localisation of SoftCAM on the embedded lesions, with intervals.

    python benchmarks/studies/lesions.py

Per seed: a classifier is trained from scratch; from it, fine-tuned for the same time, come the black box and, converted
with a grid twice as fine, SoftCAM models without penalty, with lasso, ridge and elastic net. The weights of each penalty are
chosen on the validation data of the first seed. Accuracy and the native map against post-hoc maps, on the same model and on
the black box, are then measured on test samples that no earlier choice has seen. Writes a page with a figure for the
documentation, and the two embedded models.

Finished steps are kept in the work folder, from which an interrupted run resumes. Takes about an hour and a
half on two cores.
"""

from __future__ import annotations

import argparse
import copy
import json
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import torch
from lesions_page import FIGURE, Plan, Results, write_page
from study import Scores, Work
from torch import Tensor, nn
from torchvision.models import get_model
from torchvision.transforms.v2.functional import gaussian_blur
from tqdm import tqdm

from captum_softcam.data import RetinalLesions
from captum_softcam.evaluation import LayerExplainFunc
from captum_softcam.metrics.functional import (
    activation_precision,
    activation_sensitivity,
    area_under_curve,
    deletion_curve,
    insertion_curve,
    pointing_game,
)
from captum_softcam.softcam import Architecture, Classifier, ElasticNetEvidenceLoss, SoftCamModel, convert_to_softcam
from captum_softcam.softcam.scores import hoyer_sparsity, one_vs_rest_auc

ARCHITECTURE = "mobilenet_v2"
ARGUMENTS = {
    "num_classes": len(RetinalLesions.classes),
    # Expansion, channels, repeats, stride: four halvings, so that 160 pixels end in a grid of 10 x 10. Few layers on
    # purpose: a cell sees 63 pixels, so that its evidence can only come from near by.
    "inverted_residual_setting": [[1, 16, 1, 2], [4, 32, 3, 2], [6, 64, 1, 2]],
}
SIZE, OUTPUT_STRIDE = 160, 8
GRID = {
    "no penalty": [(0.0, 0.0)],
    "lasso": [(3e-4, 0.0), (1e-3, 0.0)],
    "ridge": [(0.0, 1e-5), (0.0, 1e-4)],
    "elastic net": [(3e-4, 1e-5), (1e-3, 1e-5)],
}
POST_HOC = ("grad_cam", "recipro_cam", "score_cam", "occlusion")
MAP_SCORES = ("precision", "sensitivity", "pointing", "deletion", "insertion")
PAGE = Path("explanation/softcam_study.md")
WEIGHTS = Path("captum_softcam/softcam/weights")
MARGIN = 0.01  # of accuracy that a setting may lose on the validation data


def main() -> None:
    """Run what is missing, then write the page."""
    options = _options()
    torch.set_num_threads(options.threads)
    study = Study(options)
    chosen = study.choose()
    for seed in options.seeds:
        study.measure(seed, chosen)
    print(json.dumps(chosen, indent=2))
    if options.publish:
        names = {penalty: model_name(chosen[penalty]) for penalty in GRID}
        plan = Plan(options, GRID, chosen, names, MARGIN, OUTPUT_STRIDE)
        write_page(Results(study, options.seeds), plan, options.docs / PAGE, options.docs / FIGURE)
        study.ship(chosen["chosen"])


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--samples", type=int, default=6000, help="training samples of the base")
    parser.add_argument("--tuning-samples", type=int, default=4000, help="of them, for the fine-tuning")
    parser.add_argument("--epochs", type=int, default=7, help="epochs of the base")
    parser.add_argument("--tuning-epochs", type=int, default=3, help="epochs of each model that is tuned")
    parser.add_argument("--test-samples", type=int, default=1000, help="for the accuracy")
    parser.add_argument("--map-samples", type=int, default=96, help="with lesions, for the maps")
    parser.add_argument("--score-cam-samples", type=int, default=24, help="of them, for Score-CAM: 1,280 forwards each")
    parser.add_argument("--publish", action="store_true", help="write page and figure, and replace the embedded models")
    parser.add_argument("--docs", type=Path, default=Path("docs"), help="where page and figure belong")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--work", type=Path, default=Path("build/studies/lesions"), help="where finished steps are kept")
    return parser.parse_args()


class Study(Work):
    """The steps of the study."""

    def __init__(self, options: argparse.Namespace) -> None:
        super().__init__(options.work)
        self.options = options

    def choose(self) -> dict[str, tuple[float, float]]:
        """Choose, per penalty and of all, the weights with the best validation precision that keep the accuracy."""
        seed = self.options.seeds[0]
        reference = self.step(f"validation-black_box-{seed}", lambda: self.validate(self.black_box(seed)))
        best: dict[str, tuple[float, float]] = {}
        found: dict[str, Scores] = {}
        for penalty, grid in GRID.items():
            scores = {weights: self._validated(seed, weights) for weights in grid}
            best[penalty] = max(scores, key=lambda weights: _merit(scores[weights], reference))
            found[penalty] = scores[best[penalty]]
        winner = max(found, key=lambda penalty: _merit(found[penalty], reference))
        return {**best, "chosen": best[winner]}

    def _validated(self, seed: int, weights: tuple[float, float]) -> Scores:
        return self.step(f"validation-{model_name(weights)}-{seed}", lambda: self.validate(self.softcam(seed, weights)))

    def measure(self, seed: int, settings: dict[str, tuple[float, float]]) -> None:
        """Test every model of a seed, the native map of each, and post-hoc maps of the chosen one and of the black box."""
        black_box = self.black_box(seed)
        self.step(f"test-black_box-{seed}", lambda: self.accuracy(black_box))
        for weights in dict.fromkeys(settings.values()):
            model = self.softcam(seed, weights)
            self.step(f"test-{model_name(weights)}-{seed}", lambda model=model: self.accuracy(model))
            self.step(f"maps-{model_name(weights)}-soft_cam-{seed}", lambda model=model: self.maps(model, "soft_cam"))
        chosen = settings["chosen"]
        coarse = self.softcam(seed, chosen, coarse=True)
        self.step(f"test-coarse-{seed}", lambda: self.accuracy(coarse))
        self.step(f"maps-coarse-soft_cam-{seed}", lambda: self.maps(coarse, "soft_cam"))
        converted = convert_to_softcam(black_box).eval()
        self.step(f"maps-black_box-soft_cam-{seed}", lambda: self.maps(converted, "soft_cam"))
        for method in POST_HOC:
            self.step(f"maps-black_box-{method}-{seed}", lambda method=method: self.maps(black_box, method))
            model = self.softcam(seed, chosen)
            self.step(f"maps-chosen-{method}-{seed}", lambda method=method, model=model: self.maps(model, method))

    def base(self, seed: int) -> nn.Module:
        """Train the pooled classifier from scratch that all models of a seed start from."""
        torch.manual_seed(seed)
        model = get_model(ARCHITECTURE, weights=None, **ARGUMENTS)
        return self._fitted(f"base-{seed}", model, self.options.samples, self.options.epochs, 3e-3, None)

    def black_box(self, seed: int) -> nn.Module:
        """Fine-tune the pooled classifier as long as the SoftCAM models, so that all see equally many samples."""
        return self._tuned(f"black_box-{seed}", self.base(seed), None)

    def softcam(self, seed: int, weights: tuple[float, float], coarse: bool = False) -> SoftCamModel:
        """Convert the base of a seed and fine-tune it with a penalty."""
        model = convert_to_softcam(self.base(seed), output_stride=None if coarse else OUTPUT_STRIDE)
        name = f"{'coarse' if coarse else model_name(weights)}-{seed}"
        # The penalty is a sum over cells: a grid with a quarter of the positions has a quarter of it.
        penalty = ElasticNetEvidenceLoss(*(4 * weight if coarse else weight for weight in weights))
        return self._tuned(name, model, penalty)

    def _tuned(self, name: str, model: Any, penalty: nn.Module | None) -> Any:
        return self._fitted(name, model, self.options.tuning_samples, self.options.tuning_epochs, 1e-3, penalty)

    def _fitted(self, name: str, model: Any, samples: int, epochs: int, rate: float, penalty: nn.Module | None) -> Any:
        """Load the weights of a model from its file, after training if there is none."""
        model.to(self.options.device)

        def fit() -> None:
            torch.manual_seed(int(name.rpartition("-")[2]))
            images, targets = _tensors("train", self.options.samples, self.options.device)
            _fit(model, (images[:samples], targets[:samples]), self._validation(), epochs, rate, penalty)

        return self.fitted(name, model, fit)

    def _validation(self) -> tuple[Tensor, Tensor]:
        return _tensors("val", 800, self.options.device)

    def ship(self, weights: tuple[float, float]) -> None:
        """Replace the embedded models by those of the first seed."""
        seed = self.options.seeds[0]
        for name, model in (("softcam", self.softcam(seed, weights)), ("black_box", self.black_box(seed))):
            architecture = Architecture(ARCHITECTURE, ARGUMENTS)
            classifier = Classifier(f"lesions_{name}", model.cpu(), RetinalLesions.classes, SIZE, architecture=architecture)
            path = classifier.save(WEIGHTS / f"{classifier.name}.safetensors", half=True)
            print(f"{path}: {path.stat().st_size / 1e6:.2f} MB")

    def validate(self, model: nn.Module) -> Scores:
        """Compute the accuracy on validation data, and the precision of the native map of a SoftCAM model."""
        images, targets = self._validation()
        logits = _logits(model, images)
        scores: Scores = {"accuracy": (logits.argmax(1) == targets).double().mean().item()}
        if isinstance(model, SoftCamModel):
            scores |= {name: _mean(values) for name, values in self.maps(model, "soft_cam", "val").items()}
        return scores

    def accuracy(self, model: nn.Module) -> Scores:
        """Compute the correctness of each test sample, the AUC, and the sparsity of the evidence."""
        images, targets = _tensors("test", self.options.test_samples, self.options.device)
        logits = _logits(model, images)
        scores: Scores = {"correct": (logits.argmax(1) == targets).int().tolist()}
        scores["auc"] = one_vs_rest_auc(logits, targets, "multiclass").mean().item()
        if isinstance(model, SoftCamModel):
            with torch.no_grad():
                parts = [hoyer_sparsity(model.evidence_maps(part.float() / 255)) for part in images.split(100)]
            scores["sparsity"] = torch.cat(parts).tolist()
        return scores

    @torch.no_grad()
    def maps(self, model: nn.Module, method: str, split: str = "test") -> Scores:
        """Score the maps of one method, per sample with a lesion."""
        count = self.options.score_cam_samples if method == "score_cam" else self.options.map_samples
        images, targets, masks = _lesions(split, self.options.map_samples, self.options.device)
        layer = "backbone.features" if isinstance(model, SoftCamModel) else "features"
        explain = LayerExplainFunc(method, None if method == "soft_cam" else layer)
        scores: dict[str, list[float]] = {name: [] for name in MAP_SCORES}
        for start in tqdm(range(0, count, 24), desc=method, leave=False):
            part = slice(start, min(start + 24, count))
            maps = explain.explain(model, images[part], targets[part])
            for name, values in _map_scores(model, images[part], maps, targets[part], masks[part]).items():
                scores[name] += values.double().tolist()
        return scores


def _map_scores(model: nn.Module, images: Tensor, maps: Tensor, targets: Tensor, masks: Tensor) -> dict[str, Tensor]:
    blurred = gaussian_blur(images, [39, 39], [10.0, 10.0])  # as wide as a patch of the curves
    deletion = deletion_curve(model, images, maps, targets, blurred)
    insertion = insertion_curve(model, images, maps, targets, blurred)
    return {
        "precision": activation_precision(maps, masks),
        "sensitivity": activation_sensitivity(maps, masks),
        "pointing": pointing_game(maps, masks),
        "deletion": area_under_curve(deletion),
        "insertion": area_under_curve(insertion),
    }


def _merit(scores: Scores, reference: Scores) -> tuple[bool, float]:
    """Return a key to sort settings by: first whether they keep the accuracy, then the precision of the map."""
    kept = scores["accuracy"] >= reference["accuracy"] - MARGIN
    return kept, scores["precision"] if kept else scores["accuracy"]


def model_name(weights: tuple[float, float]) -> str:
    """Return the name of a SoftCAM model in the files of the study."""
    return "softcam_{:g}_{:g}".format(*weights)


def _mean(values: list[float]) -> float:
    return float(np.nanmean(values))


# Data and training ---------------------------------------------------------------------------------------------------

_SEEDS = {"train": 0, "val": 0, "test": 1}  # the test samples of seed 0 were seen before the study was planned


@cache
def _tensors(split: Any, length: int, device: str) -> tuple[Tensor, Tensor]:
    """Load a split as bytes (N, 3, H, W) and labels (N,)."""
    samples = RetinalLesions(split, length=length, size=SIZE, seed=_SEEDS[split])
    images = torch.empty((length, 3, SIZE, SIZE), dtype=torch.uint8)
    targets = torch.empty(length, dtype=torch.long)
    for i in tqdm(range(length), desc=f"{split} split", leave=False):
        sample = samples[i]
        images[i], targets[i] = (sample.image * 255).round().byte(), sample.target
    return images.to(device), targets.to(device)


@cache
def _lesions(split: Any, count: int, device: str) -> tuple[Tensor, Tensor, Tensor]:
    """Load images, classes and masks of the first ``count`` samples of a split that have a lesion."""
    samples = RetinalLesions(split, length=2 * count, size=SIZE, seed=_SEEDS[split])
    found = [sample for sample in (samples[i] for i in range(len(samples))) if sample.mask is not None][:count]
    images, masks = torch.stack([sample.image for sample in found]), torch.stack([sample.mask for sample in found])
    return images.to(device), torch.tensor([sample.target for sample in found], device=device), masks.to(device)


def _fit(
    model: nn.Module,
    train: tuple[Tensor, Tensor],
    validation: tuple[Tensor, Tensor],
    epochs: int,
    rate: float,
    penalty: nn.Module | None,
    batch: int = 64,
) -> None:
    """Train ``model`` in place and leave it with the weights of its best epoch."""
    images, targets = train
    optimizer = torch.optim.AdamW(model.parameters(), lr=rate, weight_decay=0.02)
    steps = epochs * (len(targets) // batch)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, max_lr=rate, total_steps=steps)
    best, state = -1.0, model.state_dict()
    for epoch in range(epochs):
        model.train()
        order = torch.randperm(len(targets)).split(batch)[: len(targets) // batch]
        for index in tqdm(order, desc=f"epoch {epoch + 1}", leave=False):
            optimizer.zero_grad()
            _loss(model, _augment(images[index]), targets[index], penalty).backward()
            optimizer.step()
            schedule.step()
        model.eval()
        score = (_logits(model, validation[0]).argmax(1) == validation[1]).double().mean().item()
        print(f"  epoch {epoch + 1}: validation accuracy {score:.3f}", flush=True)
        if score >= best:
            best, state = score, copy.deepcopy(model.state_dict())
    model.load_state_dict(state)


def _loss(model: nn.Module, images: Tensor, targets: Tensor, penalty: nn.Module | None) -> Tensor:
    entropy = nn.CrossEntropyLoss(label_smoothing=0.02)
    if penalty is None or not isinstance(model, SoftCamModel):
        return entropy(model(images), targets)
    evidence = model.evidence_maps(images)
    return entropy(evidence.mean((2, 3)), targets) + penalty(evidence)


def _augment(images: Tensor) -> Tensor:
    """Mirror images at random, turn them by quarters and shift their colours; floats in [0, 1]."""
    images = images.float() / 255
    images = images.flip(-1) if torch.rand(()) < 0.5 else images
    images = images.rot90(int(torch.randint(4, ())), (-2, -1))
    gain = 1 + 0.1 * torch.randn(len(images), 3, 1, 1, device=images.device)
    return (images * gain + 0.03 * torch.randn(len(images), 3, 1, 1, device=images.device)).clamp(0, 1)


@torch.no_grad()
def _logits(model: nn.Module, images: Tensor) -> Tensor:
    return torch.cat([model(part.float() / 255) for part in images.split(100)])


if __name__ == "__main__":
    main()
