"""A batch of images and one method's maps of it, with what several metrics need, computed once."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from functools import cached_property
from typing import Protocol

import torch
from torch import Tensor, nn

from captum_softcam._names import quoted
from captum_softcam._scores import (
    Scores,
    are_probabilities,
    as_scores,
    check_kind,
    class_logits,
    kind_in_words,
    predicted_classes,
    refuse_probabilities,
    score_table,
)
from captum_softcam.metrics import functional
from captum_softcam.metrics.functional._answers import of_class, refuse_other_classes
from captum_softcam.metrics.functional._edges import nan_if_flat, nan_if_not_positive, usable_maps
from captum_softcam.metrics.functional._grid import even_grid, grid, patch_means, patch_sums
from captum_softcam.metrics.functional.randomisation import other_classes
from captum_softcam.metrics.mosaics import Candidate, MosaicPool, Mosaics
from captum_softcam.metrics.patches import PATCHES, PatchGame, image_seed
from captum_softcam.metrics.randomised import RandomisedModels

__all__ = ["Batch", "Explain", "Explanation"]


class Explain(Protocol):
    """Function that computes maps of other images, classes or models by the method of an :class:`Explanation`."""

    def __call__(
        self,
        images: Tensor,
        *,
        targets: Tensor | None = None,
        model: nn.Module | None = None,
        rows: Sequence[int] | None = None,
        draw: str = "",
    ) -> Tensor:
        """Compute maps (M, 1, ...) of images (M, C, ...).

        Args:
            images (Tensor): versions of the images of the batch, (M, C, ...).
            targets (Tensor): the classes to explain, (M,). Default: those that the batch explains
            model (torch.nn.Module): the model to explain, with the layers of the batch's. Default: that of the batch
            rows (sequence of int): the sample of which each image is a version, (M,). Default: all, in their order
            draw (str): name of the random numbers of a random method; with the empty name it draws those of the maps
                themselves. Default: ``""``

        Returns:
            Tensor: signed maps at the resolution of the images. Cost: one attribution per image.
        """
        ...


class Batch:
    """A batch of images with its model, shared by all methods and metrics.

    Args:
        model (torch.nn.Module): images (N, C, ...) -> logits (N, K), in eval mode.
        images (Tensor): (N, C, ...), as the model expects them.
        targets (Tensor): (N,), the explained class of each image.
        masks (Tensor): (N, 1, ...) bool, all False where a sample has none. Default: None, no sample has one
        outputs (Tensor): the outputs of the model for the images, (N, K). Default: None, computed when needed
        patches (int): patches per side in the faithfulness metrics. Default: 64 patches in all, 8 per side of an image;
            fewer along a side that has fewer positions
        seed (int): seed of random subsets and noise, the same for every method and sample. Default: 0
        scores (str or callable): how the outputs become probabilities, see
            :func:`~captum_softcam.metrics.functional.as_scores`. Default: ``"softmax"``
        randomised (RandomisedModels): networks with random weights, which batches of one comparison share. Default: made of
            the model and the seed when needed
        black (callable): returns what the model receives for a black image, (1, C, ...), called when it is needed.
            Default: 0, which is grey where inputs are normalised
        seeds (sequence of int): one per sample, for draws that must not depend on the batch. Default: derived from the
            images, averaged over 64 patches
        mosaics (callable): makes the ``mosaics`` when needed. Default: of the images of the batch

    Attributes:
        forward (callable): runs the model on perturbed images; a comparison sets a faster function with the same outputs.

    Raises:
        ValueError: if ``scores`` is unknown.
        TypeError: if it is neither text nor a function.
    """

    def __init__(
        self,
        model: nn.Module,
        images: Tensor,
        targets: Tensor,
        masks: Tensor | None = None,
        *,
        outputs: Tensor | None = None,
        patches: int | None = None,
        seed: int = 0,
        scores: Scores = "softmax",
        randomised: RandomisedModels | None = None,
        black: Callable[[], Tensor] | None = None,
        seeds: Sequence[int] | None = None,
        mosaics: Callable[[], Mosaics] | None = None,
    ) -> None:
        check_kind(scores)
        self.model = model
        self.forward: Callable[[Tensor], Tensor] = model
        self.images = images
        self.targets = targets
        self.masks = images.new_zeros(len(images), 1, *images.shape[2:], dtype=torch.bool) if masks is None else masks
        self._patches = patches
        self.black = black
        self._games: dict[str, PatchGame] = {}
        self.seed = seed
        self.scores = scores
        self._noisy: dict[tuple[int, float], Tensor] = {}
        self._same: dict[tuple[int, float], Tensor] = {}
        if outputs is not None:
            self.outputs = outputs  # takes precedence over the cached property
        self.randomised = RandomisedModels(model, seed) if randomised is None else randomised
        self._seeds = seeds
        self._mosaics = mosaics

    @cached_property
    def counts(self) -> list[int]:
        """Patches along each dimension; ValueError if a side has fewer positions than ``patches``."""
        size = self.images.shape[2:]
        return even_grid(size, PATCHES) if self._patches is None else grid(size, self._patches)

    @cached_property
    @torch.no_grad()
    def outputs(self) -> Tensor:
        """The outputs of the model for the untouched images: logits or probabilities, (N, K), not checked."""
        outputs: Tensor = self.model(self.images)
        return outputs

    @cached_property
    @torch.no_grad()
    def probabilities(self) -> Tensor:
        """Scores of all classes, (N, K), as ``scores`` makes them; the outputs where they are probabilities already."""
        named = isinstance(self.scores, str) and self.scores != "identity"
        if named and are_probabilities(self.model, self.images, [self.outputs]):
            return self.outputs
        return as_scores(self.outputs, self.scores)

    @cached_property
    @torch.no_grad()
    def logits(self) -> Tensor:
        """The logit of each class, (N, K), checked; ValueError if they are of another form, or are probabilities."""
        outputs = score_table(self.outputs, len(self.images), self.scores)
        refuse_other_classes(outputs, self.targets, self.scores)
        # Last, because this check may cost a forward.
        refuse_probabilities(self.model, self.images, [outputs], self.scores)
        return class_logits(outputs, self.scores)

    @cached_property
    @torch.no_grad()
    def confidence(self) -> Tensor:
        """Probability of the class in the untouched images, (N,); NaN outside [0, 1].

        Raises:
            ValueError: if no image has one in [0, 1].
        """
        _ = self.logits  # checked
        return fractions(of_class(as_scores(self.outputs, self.scores), self.targets), self.scores)

    def noisy_images(self, runs: int, radius: float) -> Tensor:
        """Return the images under noise, the same for all methods, see :func:`.functional.noisy_images`.

        Args:
            runs (int): number of noisy images, *R*.
            radius (float): size of the strongest noise, in standard deviations of the image.

        Returns:
            Tensor: (N, R, C, ...), NaN where the noise is 0, because the image is constant. Cost: no forward.

        Raises:
            ValueError: as the function does.
        """
        key = runs, radius
        if key not in self._noisy:
            noisy = functional.noisy_images(self.images, runs=runs, radius=radius, seed=self.seed)
            self._noisy[key] = other_images(self.images, noisy)
        return self._noisy[key]

    @torch.no_grad()
    def same_predictions(self, runs: int, radius: float) -> Tensor:
        """Return whether the predictions for the noisy images are those for the images.

        Args:
            runs (int): number of noisy images, *R*.
            radius (float): size of the strongest noise, in standard deviations of the image.

        Returns:
            Tensor: (N, R) bool. Cost: ``runs`` forwards, once for all methods.

        Raises:
            ValueError: as :meth:`noisy_images` does, or if the outputs of the model are not (N, K) with these scores.
        """
        key = runs, radius
        if key not in self._same:
            _ = self.logits  # checked
            found = [self._predicted(self.forward(noisy)) for noisy in self.noisy_images(runs, radius).unbind(1)]
            self._same[key] = torch.stack(found, 1) == self._predicted(self.outputs)[:, None]
        return self._same[key]

    def _predicted(self, outputs: Tensor) -> Tensor:
        """Return the predicted class; where several can be present, whether the explained one is, (N,)."""
        if self.scores == "sigmoid" and outputs.shape[1] > 1:
            return of_class(outputs, self.targets) > 0
        return predicted_classes(outputs, self.scores)

    @cached_property
    @torch.no_grad()
    def empty_logits(self) -> Tensor:
        """The logits of the explained classes for an image of zeros, (N,), which integrated gradients start from."""
        _ = self.logits  # checked
        empty = class_logits(self.model(torch.zeros_like(self.images[:1])), self.scores)
        return of_class(empty.expand(len(self.images), -1), self.targets)

    @property
    def game(self) -> PatchGame:
        """The images as a game of patches, in which a removed patch is blurred."""
        return self.game_with("blur")

    def game_with(self, baseline: str) -> PatchGame:
        """Return the images as a game of patches, made once for each baseline.

        Args:
            baseline (str): replacement of removed patches, see :func:`~captum_softcam.metrics.functional.as_baseline`.

        Returns:
            PatchGame: the game, which remembers the scores of the boards that any method or metric has asked for.

        Raises:
            ValueError: as for :meth:`replacement`, or if the outputs of the model are not (N, K) with these scores.
        """
        if baseline not in self._games:
            replacement = self.replacement(baseline)
            _ = self.logits  # checked
            # With the outputs given, the full board costs no forward.
            self._games[baseline] = PatchGame(self.forward, self.images, replacement, self.counts, self.outputs)
        return self._games[baseline]

    def replacement(self, baseline: str) -> Tensor | Callable[[Tensor, Tensor], Tensor]:
        """Return what replaces the removed parts of the images; noise is drawn from the seed of the batch.

        Args:
            baseline (str): a name, see :func:`~captum_softcam.metrics.functional.as_baseline`.

        Returns:
            Tensor or callable: the replacement (N, C, ...), or a function of images and removed positions.

        Raises:
            ValueError: if the baseline is unknown, or black is not a finite input of the model.
        """
        black = self.black() if baseline == "black" and self.black is not None else 0.0
        if isinstance(black, Tensor) and not black.isfinite().all():
            raise ValueError(
                "the baseline 'black' is not defined, because normalize gives no finite values for a black image; choose "
                "another, such as 'mean'."
            )
        return functional.as_baseline(baseline, self.images, patches=self.counts, black=black, seed=self.seed)

    @cached_property
    def seeds(self) -> list[int]:
        """A seed for each sample, which does not depend on the batch."""
        return [image_seed(image) for image in self.images] if self._seeds is None else list(self._seeds)

    @cached_property
    @torch.no_grad()
    def other_targets(self) -> Tensor | None:
        """Another class for each sample, drawn from its seed, (N,); None where the model has a single class."""
        classes = self.logits.shape[1]
        return other_classes(self.targets, classes, self.seeds, seed=self.seed) if classes > 1 else None

    @cached_property
    @torch.no_grad()
    def mosaics(self) -> Mosaics:
        """A mosaic for each sample, of its image and of images that neither are of its class nor are taken for it."""
        if self._mosaics is not None:
            return self._mosaics()
        candidates = itertools.starmap(Candidate, zip(self.images, self.targets.tolist(), strict=True))
        pool, _ = MosaicPool.chosen(candidates, self.model, self.scores)
        return pool.make(self.images, self.targets, self.seeds, self.seed)

    @cached_property
    def superpixels(self) -> Tensor:
        """Segments of the images, (N, 1, ...)."""
        return functional.superpixels(self.images)


class Explanation:
    """A batch with the maps of one method.

    Args:
        batch (Batch): the batch.
        maps (Tensor): (N, 1, ...) at input resolution, signed; the map of an image that is not finite is replaced by NaN.
        explain (Explain): computes other maps by the same method, for metrics that need them.
        layer_maps (Tensor): the maps as the method returns them, before they are upsampled, (N, 1, h, w). Default: the maps

    Raises:
        ValueError: if the maps are not (N, 1, ...) of the images' number and size.
    """

    def __init__(self, batch: Batch, maps: Tensor, explain: Explain, layer_maps: Tensor | None = None) -> None:
        self.batch = batch
        self.maps = usable_maps(batch.images, maps)
        self.explain = explain
        self._maps_of: dict[nn.Module, Tensor] = {}
        self.layer_maps = self.maps if layer_maps is None else layer_maps
        self._noisy_maps: dict[tuple[int, float], Tensor] = {}

    def noisy_maps(self, runs: int, radius: float) -> Tensor:
        """Return maps of the noisy images, each with random numbers of its own.

        Args:
            runs (int): number of noisy images, *R*.
            radius (float): size of the strongest noise, in standard deviations of the image.

        Returns:
            Tensor: (N, R, ...). Cost: ``runs`` attributions, once for all metrics.

        Raises:
            ValueError: as :meth:`Batch.noisy_images` does.
        """
        key = runs, radius
        if key not in self._noisy_maps:
            noisy = self.batch.noisy_images(runs, radius).unbind(1)
            maps = [self.explain(images, draw=f"noise {run}") for run, images in enumerate(noisy)]
            self._noisy_maps[key] = torch.cat(maps, 1)
        return self._noisy_maps[key]

    @cached_property
    def patch_means(self) -> Tensor:
        """Mean of each map over its patches, (N, 1, g, g), which determines their order."""
        return nan_if_flat(patch_means(self.maps, self.batch.counts)[:, None], self.maps)

    @cached_property
    def patch_sums(self) -> Tensor:
        """Sum of each map over its patches, (N, 1, g, g), their contributions."""
        # Patches may differ in size, and then the sums of a flat map are not flat: the map itself has to be checked.
        return nan_if_flat(patch_sums(self.maps, self.batch.counts)[:, None], self.maps)

    @cached_property
    def masked_images(self) -> Tensor:
        """The images masked by their maps, (N, C, ...)."""
        return functional.masked_images(self.batch.images, self.maps)

    @cached_property
    def masked_confidence(self) -> Tensor:
        """Probability of the class in the masked images, (N,)."""
        batch = self.batch
        found = functional.confidence(batch.forward, self.masked_images, batch.targets, scores=batch.scores)
        scores = fractions(found, batch.scores)
        # A map without positive relevance leaves an image of zeros, whose confidence is a number but not a score.
        return nan_if_not_positive(scores, self.maps)

    @cached_property
    def mosaic_maps(self) -> Tensor:
        """Maps of the mosaics by the same method, (N, 1, ...). Cost: one attribution."""
        return self.explain(self.batch.mosaics.images, draw="mosaic")

    def maps_of(self, network: nn.Module) -> Tensor:
        """Compute the maps of the images by a network with random weights, once for all metrics.

        Args:
            network (torch.nn.Module): one of ``batch.randomised``.

        Returns:
            Tensor: (N, 1, ...). Cost: one attribution for the first call with a network.
        """
        if network not in self._maps_of:
            self._maps_of[network] = self.explain(self.batch.images, model=network)
        return self._maps_of[network]

    @cached_property
    def masked_maps(self) -> Tensor:
        """Maps of the masked images by the same method, (N, 1, ...). Cost: one attribution."""
        return self.explain(self.masked_images, draw="masked")  # or a random method would draw the same numbers again


def other_images(images: Tensor, versions: Tensor) -> Tensor:
    """Replace versions (N, R, C, ...) by NaN that equal their image (N, C, ...), and so would their maps."""
    same = (versions == images[:, None]).flatten(2).all(2)
    return versions.masked_fill(same.view(*same.shape, *[1] * (images.dim() - 1)), torch.nan)


def fractions(values: Tensor, scores: Scores) -> Tensor:
    """Replace values (N,) outside [0, 1] by NaN; raise ValueError if none lies within."""
    # A softmax within the model may exceed 1 by rounding.
    error = 10 * torch.finfo(values.dtype).eps
    outside = (values < -error) | (values > 1 + error)
    if outside.any() and not ((values >= -error) & (values <= 1 + error)).any():
        raise ValueError(
            f"the drop and the increase in confidence and ADCC read probabilities in [0, 1]; with "
            f"scores={quoted(kind_in_words(scores))} the model gives {values[outside][0].item():.4g}: leave these metrics "
            "out, or pass as scores a function (N, K) -> (N, K) whose values are in [0, 1]."
        )
    return values.clamp(0, 1).masked_fill(outside, torch.nan)
