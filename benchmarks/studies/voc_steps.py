"""The steps of the study of PASCAL VOC: train, choose penalties, measure accuracy and maps."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import cached_property
from typing import Any, NamedTuple

import numpy as np
import torch
from fine_tuning import Images, Recipe, fine_tuned, frozen_features, normalize
from study import Scores, Work
from torch import Tensor, nn
from torch.utils.data import Subset
from voc import (
    BATCH,
    CHEAP,
    CLASSES,
    CONTROLS,
    FAITHFULNESS,
    FOLD,
    GRID,
    KEPT,
    KINDS,
    LEARNING_RATE,
    LOCALISATION,
    NATIVE,
    PRESENCE,
    SLOW,
    UNPENALISED,
    coarse,
)
from voc_results import average_precision, points

from captum_softcam.data import VOCSamples
from captum_softcam.data.pascal_xml import PascalAnnotation, read_pascal_xml
from captum_softcam.evaluation import LayerExplainFunc, compare_models
from captum_softcam.metrics import functional
from captum_softcam.metrics.functional import pointing_game
from captum_softcam.softcam import ElasticNetEvidenceLoss, SoftCamModel, convert_to_softcam
from captum_softcam.softcam.scores import hoyer_sparsity


class Photographs(NamedTuple):
    """The photographs of a list, in the order of their names.

    Args:
        samples (VOCSamples): one for each class in each photograph.
        names (list of str): of the photographs.
        images (Tensor): (N, 3, 224, 224), in [0, 1].
        shown (Tensor): whether a photograph shows a class, (N, K) bool.
        undecided (Tensor): whether all objects of the class are difficult, (N, K) bool.
    """

    samples: VOCSamples
    names: list[str]
    images: Tensor
    shown: Tensor
    undecided: Tensor

    @classmethod
    def of(cls, samples: VOCSamples) -> Photographs:
        """Read each photograph once."""
        first = {group: i for i, group in reversed(list(enumerate(samples.groups or [])))}
        names = sorted(first)
        found = [samples[first[name]] for name in names]
        shown, undecided = torch.zeros(2, len(names), CLASSES, dtype=torch.bool)
        for row, sample in enumerate(found):
            shown[row, list(sample.labels or ())] = True
            undecided[row, list(sample.undecided)] = True
        return cls(samples, names, torch.stack([sample.image for sample in found]), shown, undecided)


class Study(Work):
    """The steps of the study."""

    def __init__(self, options: argparse.Namespace) -> None:
        super().__init__(options.work)
        self.options = options
        self.root = options.data / "VOCdevkit" / "VOC2007"

    def run(self) -> dict[str, tuple[float, float]]:
        """Run all steps that are missing, and return the weights of the penalties."""
        seeds = self.options.seeds
        weights = self.choose()
        for seed in seeds:
            for kind in KINDS:
                model = self.model(kind, seed, weights)
                self.step(f"test-{kind}-{seed}", lambda model=model: self.accuracy(model))
                for method in CHEAP if kind == "black_box" else (NATIVE,):
                    step = f"maps-{kind}-{method}-{seed}"
                    self.step(step, lambda model=model, method=method: self.localisation(model, method))
        self.step("same", lambda: self.same_training(seeds[0]))
        for control in CONTROLS:
            self.step(f"maps-{control}", lambda control=control: self.localisation(nn.Identity(), control))
        for name, *given in self._comparisons(weights):
            self.step(f"compare-{name}", lambda name=name, given=given: self.compared(name, *given))
        return weights

    # Models

    @cached_property
    def train(self) -> Photographs:
        """The photographs of ``train``."""
        return Photographs.of(VOCSamples(self.root, "train", include_difficult=True))

    @cached_property
    def test(self) -> Photographs:
        """The photographs of ``test``."""
        return Photographs.of(VOCSamples(self.root, "test", include_difficult=True))

    @cached_property
    def features(self) -> Images:
        """The photographs of ``train`` as the frozen layers see them."""
        # A difficult object is there, too.
        targets = (self.train.shown | self.train.undecided).float()
        path = self.folder / "features.pt"
        if not path.exists():
            torch.save(frozen_features(self.train.images, targets).features, path.with_suffix(".part"))
            path.with_suffix(".part").rename(path)
        return Images(torch.load(path), targets)

    def base(self, seed: int) -> Any:
        """Fine-tune the black box that all models of a seed start from."""
        return self._tuned(f"base-{seed}", seed, self.options.base_epochs, None, UNPENALISED, None)

    def model(self, kind: str, seed: int, weights: Mapping[str, tuple[float, float]]) -> Any:
        """Tune a model of a seed."""
        _, stride, penalty = KINDS[kind]
        return self.tuned(kind, seed, stride, weights[penalty] if penalty else UNPENALISED)

    def tuned(self, name: str, seed: int, stride: int | None, weights: tuple[float, float]) -> Any:
        """Tune the base of a seed with the weights of a penalty, which are those at stride 32."""
        # The penalty is a sum over cells: a grid with four times as many has four times of it.
        scaled = tuple(weight * ((stride or 32) / 32) ** 2 for weight in weights)
        return self._tuned(f"{name}-{seed}", seed, self.options.epochs, stride, scaled, self.base(seed))

    def _tuned(self, name: str, seed: int, epochs: int, stride: int | None, weights: Any, start: Any) -> Any:
        if (self.folder / f"{name}.pt").exists():
            train = validation = Images(torch.empty(0), torch.empty(0))  # are not looked at
        else:
            places = range(len(self.features.targets))
            train = self.features.part([i for i in places if i % FOLD])
            validation = self.features.part([i for i in places if not i % FOLD])
        return fine_tuned(
            self,
            name,
            train=train,
            validation=validation,
            classes=CLASSES,
            seed=seed,
            recipe=Recipe("multilabel", epochs, LEARNING_RATE),
            output_stride=stride,
            penalty=ElasticNetEvidenceLoss(*weights) if any(weights) else None,
            class_weights=torch.full((CLASSES,), PRESENCE),
            start=start,
        )

    # Choosing penalties

    def choose(self) -> dict[str, tuple[float, float]]:
        """Choose, per penalty and of both, the weights with the most precise maps that keep the average precision."""
        seed = self.options.seeds[0]
        reference = self.step(f"validation-none-{seed}", lambda: self.validate(self.model("black_box", seed, {})))
        found: dict[str, tuple[float, float]] = {}
        merits: dict[str, Any] = {}
        for penalty, grid in GRID.items():
            merit = {weights: _merit(self._validated(seed, weights), reference) for weights in grid}
            found[penalty] = max(grid, key=lambda weights: merit[weights])
            merits[penalty] = merit[found[penalty]]
        winner = max(merits, key=lambda penalty: merits[penalty])
        # The models have the names of their penalties only after the choice.
        return {**found, "chosen": found[winner]}

    def _validated(self, seed: int, weights: tuple[float, float]) -> Scores:
        name = "trial_{:g}_{:g}".format(*weights)
        return self.step(f"validation-{name}-{seed}", lambda: self.validate(self.tuned(name, seed, 32, weights)))

    @torch.no_grad()
    def validate(self, model: nn.Module) -> Scores:
        """Compute mean average precision and activation precision of native maps on the photographs that choose."""
        images, shown = self.train.images[::FOLD], self.train.shown[::FOLD].numpy()
        logits = _in_batches(model, images).double().numpy()
        aps = [average_precision(*column) for column in zip(logits.T, shown.T, strict=True)]
        held = set(self.train.names[::FOLD])
        samples = self.train.samples
        places = [i for i, group in enumerate(samples.groups or []) if group in held]
        maps, masks = self._maps(model, NATIVE, Subset(samples, places))
        # A penalty that leaves some maps without evidence is not more precise because of it.
        return {
            "map": float(np.nanmean(aps)),
            "precision": functional.activation_precision(maps, masks).nan_to_num(0).mean().item(),
            "positive": (maps.flatten(1).amax(1) > 0).double().mean().item(),
        }

    # Measuring

    @torch.no_grad()
    def accuracy(self, model: nn.Module) -> Scores:
        """Compute the logits of every test photograph, and the sparsity of the evidence."""
        softcam = model if isinstance(model, SoftCamModel) else convert_to_softcam(model)
        evidence = _in_batches(softcam.evidence_maps, self.test.images)
        return {"logits": evidence.mean((2, 3)).tolist(), "sparsity": hoyer_sparsity(evidence).tolist()}

    def same_training(self, seed: int) -> Scores:
        """Train SoftCAM at the stride of the network without a penalty, and compare its logits with the black box's."""
        models = self.model("black_box", seed, {}), self.tuned("none_32", seed, 32, UNPENALISED)
        with torch.no_grad():
            logits = [_in_batches(model, self.test.images) for model in models]
        return {"difference": (logits[0] - logits[1]).abs().max().item(), "largest": logits[0].abs().max().item()}

    def localisation(self, model: nn.Module, method: str) -> Scores:
        """Score the maps of a method for all samples."""
        maps, masks = self._maps(model, method, self.test.samples)
        scores: Scores = {"pointing_game": pointing_game(maps, masks).tolist()}
        for name in LOCALISATION:
            scores[name] = getattr(functional, name)(maps, masks).tolist()
        scores["positive"] = (maps.flatten(1).amax(1) > 0).double().tolist()
        scores["pointing_15"] = [points(each, *self.boxes(i)) for i, each in enumerate(maps)]
        return scores

    def _maps(self, model: nn.Module, method: str, samples: Any) -> tuple[Tensor, Tensor]:
        explain = LayerExplainFunc(method)
        model = convert_to_softcam(model) if method == NATIVE and not isinstance(model, SoftCamModel) else model
        maps, masks = [], []
        for start in range(0, len(samples), BATCH):
            batch = [samples[i] for i in range(start, min(start + BATCH, len(samples)))]
            images = torch.stack([sample.image for sample in batch])
            images = images if method in CONTROLS else normalize(images)
            maps.append(explain.explain(model, images, torch.tensor([sample.target for sample in batch])))
            masks += [sample.mask for sample in batch]
        return torch.cat(maps), torch.stack(masks)

    def boxes(self, index: int) -> tuple[tuple[int, int], Tensor]:
        """Return height and width of the photograph of a sample, and the boxes (B, 4) of its class."""
        name, label = self.test.samples.identifier(index).split("/")
        found = self.annotation(name)
        assert found.size is not None  # VOC states it everywhere
        return found.size[::-1], torch.tensor([tuple(each.box) for each in found.objects if each.name == label])

    def annotation(self, name: str) -> PascalAnnotation:
        """Read the annotation of a photograph."""
        return read_pascal_xml(self.root / "Annotations" / f"{name}.xml", first_pixel=1)

    def is_difficult(self, index: int) -> bool:
        """Check whether a sample is of the difficult subset: small objects beside another class."""
        (height, width), boxes = self.boxes(index)
        area = ((boxes[:, 2] - boxes[:, 0]) * (boxes[:, 3] - boxes[:, 1])).sum().item()
        name = self.test.samples.identifier(index).partition("/")[0]
        return area < height * width / 4 and len({each.name for each in self.annotation(name).objects}) > 1

    def _comparisons(self, weights: Mapping[str, Any]) -> Iterator[tuple[str, int, dict[str, Any], tuple[str, ...]]]:
        """Yield name, number of samples, models and methods of every comparison."""
        options = self.options
        chosen = next(penalty for penalty in GRID if weights[penalty] == weights["chosen"])
        black_boxes = self._models(("black_box",), weights)
        free = {name: convert_to_softcam(model) for name, model in black_boxes.items()}
        yield "post-hoc", options.faithful_samples, black_boxes, ("grad_cam", "recipro_cam", "centred_gaussian", "random")
        yield "native", options.faithful_samples, {**free, **self._models(("none_16",), weights)}, (NATIVE,)
        yield "penalised", options.faithful_samples, self._models((coarse(chosen), "chosen_16"), weights), (NATIVE,)
        yield "slow", options.slow_samples, black_boxes, SLOW

    def _models(self, kinds: Sequence[str], weights: Mapping[str, Any]) -> dict[str, Any]:
        return {f"{kind}-{seed}": self.model(kind, seed, weights) for kind in kinds for seed in self.options.seeds}

    def compared(self, name: str, samples: int, models: Mapping[str, nn.Module], methods: Sequence[str]) -> Scores:
        """Compare methods on the first samples with metrics that run the model."""
        folder = self.folder / f"compare-{name}"
        found = compare_models(
            models,
            Subset(self.test.samples, range(samples)),
            methods,
            [*FAITHFULNESS, *LOCALISATION, "pointing_game"],
            groups={model: model.rpartition("-")[0] for model in models},
            normalize=normalize,
            scores="sigmoid",
            folder=folder,
            resume=folder.exists(),
            examples=0,
            probes=0,
        )
        scores = {}
        for model, comparison in found.comparisons.items():
            for (method, metric), rows in comparison.scores.groupby(["method", "metric"], sort=False):
                scores[f"{model}: {method}: {metric}"] = rows.set_index("sample").score[comparison.samples].tolist()
        return scores


def _merit(scores: Scores, reference: Scores) -> tuple[bool, float]:
    """Return a key to sort weights by: first whether they keep the average precision, then the precision of maps."""
    kept = scores["map"] >= reference["map"] - KEPT
    return kept, scores["precision"] if kept else scores["map"]


def _in_batches(function: Callable[[Tensor], Tensor], images: Tensor) -> Tensor:
    return torch.cat([function(normalize(part)) for part in images.split(BATCH)])
