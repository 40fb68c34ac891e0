"""Explain image files: the layer is chosen once, pictures share forwards, and maps fit onto the whole picture again."""

from __future__ import annotations

import re
import unicodedata
import warnings
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain
from numbers import Integral
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import torch
from torch import Tensor

from captum_softcam._fit import Fit
from captum_softcam._maps import is_flat
from captum_softcam._names import as_text, closest, listed, named, quoted, shown
from captum_softcam._scores import PROBABILITIES, best_classes, runner_up_classes
from captum_softcam.attr import METHODS
from captum_softcam.data import PictureFiles, Sample
from captum_softcam.data._disk.files import without_ending
from captum_softcam.data._pixels.images import Reading
from captum_softcam.data.samples import UNKNOWN, class_number, class_numbers
from captum_softcam.evaluation.batch import make_batch, make_examples
from captum_softcam.evaluation.checks import (
    check_layer,
    check_model,
    check_runner_up,
    fast_methods,
    find_methods,
    fitting_methods,
    warn_of_flat_maps,
)
from captum_softcam.evaluation.controls import CONTROLS, name_seed
from captum_softcam.evaluation.costs import device_of
from captum_softcam.evaluation.example import Example
from captum_softcam.evaluation.explain_func import LayerExplainFunc
from captum_softcam.evaluation.one_logit import with_both_classes
from captum_softcam.evaluation.performance import check_classifier
from captum_softcam.evaluation.reader import warn_of_unreadable
from captum_softcam.metrics import Batch

if TYPE_CHECKING:
    from captum_softcam.softcam import Classifier

__all__ = ["ExplainedPicture", "explain_pictures"]

_BATCH = 8  # pictures that share forwards
_PIXELS = 2**25  # of the pictures that are held at once; each needs 12 bytes
_NAME = 80  # bytes of a picture's name in the names of its files


@dataclass(frozen=True, eq=False)
class ExplainedPicture:
    """An image file with its maps for one class or for several.

    The maps are those of the square that the network sees, at the resolution of the layer;
    ``overlay(each.picture, each.examples[0].maps["grad_cam"], fit=each.fit, size=each.size)`` puts one back.

    Args:
        file (Path): the image file.
        picture (Tensor): (3, H, W) in [0, 1], in its own size, upright and uncropped.
        examples (tuple of Example): the square (3, size, size) with its maps (1, h, w), one example per explained class.
        model (str): name of the classifier.
        classes (tuple of str): names of all classes.
        layers (dict): name of the layer by method; None for methods without one.
        fit (Fit): how the picture became the square.
        size (int): side of the square in pixels.
        stem (str): a name for its files, which is unique among the pictures explained with it and sorts as they do.
    """

    file: Path
    picture: Tensor
    examples: tuple[Example, ...]
    model: str
    classes: tuple[str, ...]
    layers: dict[str, str | None]
    fit: Fit
    size: int
    stem: str

    def __str__(self) -> str:
        return f"{self.name}: {self.words}"

    def __repr__(self) -> str:
        return f"ExplainedPicture({quoted(self.name)}, {self.words}; maps: {listed(self.examples[0].maps)})"

    def _repr_html_(self) -> str:
        return "".join(example._repr_html_() for example in self.examples)

    @property
    def name(self) -> str:
        """Name of the picture, on one line."""
        return shown(self.examples[0].sample.identifier)

    @property
    def words(self) -> str:
        """The explained classes with their scores, and the predicted one if it is not among them."""
        explained = [example.target for example in self.examples]
        words = [self.scored(target) for target in explained]
        best = int(self._scores.argmax())
        if best not in explained:
            words.append(f"predicted {self.scored(best)}")
        return ", ".join(words)

    def scored(self, number: int) -> str:
        """Return the name of a class with its score, as in ``cat (0.912)``.

        Args:
            number (int): of the class.

        Returns:
            str: on one line.
        """
        form = ".3f" if self.examples[0].scores in PROBABILITIES else ".4g"
        return f"{named(self.classes[number])} ({self._scores[number]:{form}})"

    @property
    def _scores(self) -> Tensor:
        scores = self.examples[0].probabilities
        assert scores is not None, "explain_pictures fills them in"
        return scores


def explain_pictures(
    classifier: Classifier,
    pictures: PictureFiles | str | Path | Sequence[str | Path],
    methods: Sequence[Any] | Mapping[str, Any] | str | None = None,
    *,
    target: int | str | None = None,
    top_k: int = 1,
    layer: str | None = None,
    runner_up: bool = False,
    reading: Reading = Reading(),
    batch_size: int | None = None,
    strict: bool = False,
) -> Iterator[ExplainedPicture]:
    """Explain image files one after the other.

    Pictures that cannot be read are left out, and a warning names them at the end. A flat map is warned of once per method,
    as by :func:`explain_sample`. A picture that was explained before an error remains explained.

    Cost: per picture one forward, and that of each method for each class; those of the suggested layer, once.

    Args:
        classifier (Classifier): the network, with what it needs of a picture.
        pictures (path, sequence of path, or PictureFiles): image files, and folders that are searched for them.
        methods (sequence, dict or str): as for :func:`compare_methods`, or ``"all"`` that suit the model. Default: the fast
            ones that suit it, of which a map costs a few forwards
        target (int or str): number or name of the class to explain. Default: the predicted class
        top_k (int): number of classes to explain, those with the highest scores. Default: 1
        layer (str): layer of layer methods. Default: as for :func:`compare_methods`
        runner_up (bool): compute the maps of the runner-up of each explained class, too. Default: False
        reading (Reading): how the files are read; not used for ``PictureFiles``. Default: as they are
        batch_size (int): pictures that share forwards, at most. Default: 8, and 1 with methods that take many forwards
        strict (bool): raise the error of a picture that cannot be read. Default: False

    Returns:
        iterator of ExplainedPicture: in the order of the files. The arguments are validated at once, except those that need
        a picture.

    Raises:
        FileNotFoundError: if there is no such file or folder, or a folder holds no image.
        ValueError: if there is no such class, ``top_k`` is not between 1 and their number, both are passed, a method or the
            layer does not suit the model, no fast method suits it, the model is in train mode, or no picture can be read.
            Errors of a method are not caught.
        TypeError: if ``classifier`` is a model alone, ``pictures`` are not paths, or a method is not a method.

    Example::

        >>> for each in explain_pictures(load_embedded(), "scans"):
        ...     print(each.stem, sorted(each.examples[0].maps))
        1-a ['grad_cam', 'recipro_cam', 'soft_cam']
    """
    check_classifier(classifier)
    check_model(classifier.model)
    if not isinstance(pictures, PictureFiles):
        pictures = PictureFiles(pictures, classifier.image_size, classifier.fit, reading)
    number = None if target is None else _class_number(target, classifier.scored_classes)
    if target is not None and top_k != 1:
        raise ValueError("target (--class) and top_k (--top-k) both choose the classes to explain; pass one of them.")
    if not isinstance(top_k, Integral) or not 1 <= top_k <= len(classifier.scored_classes):
        raise ValueError(
            f"top_k (--top-k) is {quoted(top_k)}; expected a whole number from 1 to {len(classifier.scored_classes)}, the "
            "classes of the model."
        )
    run = _Run(classifier, pictures, number, top_k, runner_up, strict)
    return run.explained(methods, layer, batch_size)


class _Read(NamedTuple):
    """A picture that was read, with its place among all and the square that it became."""

    place: int
    picture: Tensor
    square: Tensor


@dataclass(frozen=True)
class _Run:
    """Pictures to be explained, and which of their classes."""

    classifier: Classifier
    pictures: PictureFiles
    target: int | None
    top_k: int
    runner_up: bool
    strict: bool

    def explained(self, methods: Any, layer: str | None, batch_size: int | None) -> Iterator[ExplainedPicture]:
        unreadable: dict[str, str] = {}
        read = self._read(unreadable)
        first = next(read, None)
        if first is None:
            raise ValueError(
                f"none of the {len(self.pictures)} pictures can be read; the first: {next(iter(unreadable.values()))}"
            )
        explainers = self._explainers(methods, layer, first.square)
        fast = all(name in CONTROLS or (name in METHODS and METHODS[name].fast) for name in explainers)
        told: set[str] = set()
        for batch in _batches(chain([first], read), batch_size or (_BATCH if fast else 1)):
            yield from self._explain(batch, explainers, told)
        warn_of_unreadable(unreadable, len(self.pictures), stacklevel=2)

    def _read(self, unreadable: dict[str, str]) -> Iterator[_Read]:
        """Yield the pictures that can be read and made square."""
        for place in range(len(self.pictures)):
            try:
                picture = self.pictures.picture(place)
                square = self.classifier.fit.image(picture, self.classifier.image_size)
            except (OSError, ValueError) as error:
                if self.strict or len(self.pictures) == 1:
                    raise
                unreadable[self.pictures.identifier(place)] = str(error)
                continue
            yield _Read(place, picture, square)

    def _explainers(self, methods: Any, layer: str | None, square: Tensor) -> dict[str, LayerExplainFunc]:
        model = self.classifier.model
        image = self.classifier.normalize(square[None].to(device_of(model)))
        layer = check_layer(model, layer, image)
        if methods is None:
            methods, slow = fast_methods(model, layer, image)
            for name, why in slow.items():
                known = ",".join([name, *methods])
                warnings.warn(f"{name} is left out, because {why}; name it: --methods {known}.", stacklevel=4)
        return find_methods(fitting_methods(model, layer) if methods == "all" else methods, layer, model)

    def _explain(
        self, read: Sequence[_Read], explainers: Mapping[str, LayerExplainFunc], told: set[str]
    ) -> Iterator[ExplainedPicture]:
        """Explain pictures in one batch; ``told`` are the methods of which a flat map was warned."""
        classifier, model, size = self.classifier, self.classifier.model, self.classifier.image_size
        samples = [Sample(each.square, UNKNOWN, None, self.pictures.identifier(each.place)) for each in read]
        batch, _ = make_batch(model, samples, (size, size), classifier.normalize, "predicted", scores=classifier.scores)
        maps = _Maps(batch, explainers, [name_seed(sample.identifier) for sample in samples])
        if self.runner_up:
            check_runner_up(batch.outputs, classifier.scores)
        examples = [self._examples(maps, samples, targets) for targets in self._targets(batch)]
        maps.warn_of_flat(told)
        for index, each in enumerate(read):
            yield ExplainedPicture(
                self.pictures.files[each.place],
                each.picture,
                tuple(column[index] for column in examples),
                classifier.name,
                classifier.scored_classes,
                {name: explainer.description["layer"] for name, explainer in explainers.items()},
                classifier.fit,
                size,
                _stem(each.place, len(self.pictures), samples[index].identifier),
            )

    def _targets(self, batch: Batch) -> list[Tensor]:
        """Return the classes to explain, each (N,)."""
        if self.target is not None:
            return [torch.full_like(batch.targets, self.target)]
        return list(best_classes(batch.outputs, self.top_k, batch.scores).unbind(1))

    def _examples(self, maps: _Maps, samples: Sequence[Sample], targets: Tensor) -> list[Example]:
        whole = maps.batch
        batch = Batch(whole.model, whole.images, targets, outputs=whole.outputs, scores=whole.scores)
        others = runner_up_classes(whole.outputs, targets, whole.scores)
        return make_examples(
            batch, samples, range(len(samples)), maps.of(targets), maps.of(others) if self.runner_up else {}
        )


class _Maps:
    """The maps of a batch by class, each computed once."""

    def __init__(self, batch: Batch, explainers: Mapping[str, LayerExplainFunc], seeds: Sequence[int]) -> None:
        self.batch = batch
        self._explainers = explainers
        self._seeds = seeds
        self._model = with_both_classes(batch.model, batch.outputs, batch.scores)
        self._known: dict[tuple[int, ...], dict[str, Tensor]] = {}

    def of(self, targets: Tensor) -> dict[str, Tensor]:
        """Return the maps (N, 1, h, w) of classes (N,) by method."""
        key = tuple(targets.tolist())
        if key not in self._known:
            self._known[key] = {
                name: each.explain(self._model, self.batch.images, targets, self._seeds, upsampled=False)
                for name, each in self._explainers.items()
            }
        return self._known[key]

    def warn_of_flat(self, told: set[str]) -> None:
        """Warn of the first flat map of each method that is not in ``told``."""
        for maps in self._known.values():
            for index in range(len(self.batch.images)):
                one = {name: each[index : index + 1] for name, each in maps.items() if name not in told}
                flat = {name: each for name, each in one.items() if is_flat(each).all()}
                if flat:
                    told.update(flat)
                    warn_of_flat_maps(self.batch.model, self.batch.images[index : index + 1], flat, self._explainers)


def _batches(pictures: Iterable[_Read], most: int) -> Iterator[list[_Read]]:
    """Yield pictures in groups that fit into memory."""
    batch: list[_Read] = []
    for each in pictures:
        pixels = sum(one.picture[0].numel() for one in (*batch, each))
        if batch and (len(batch) == most or pixels > _PIXELS):
            yield batch
            batch = []
        batch.append(each)
    if batch:
        yield batch


def _class_number(target: int | str, classes: Sequence[str]) -> int:
    if isinstance(target, str) and target in classes:  # first, because a class may be named by a number
        return class_number(target, class_numbers(classes), "target (--class)")
    number = int(target) if isinstance(target, str) and target.isdecimal() else target
    if isinstance(number, int) and not isinstance(number, bool) and 0 <= number < len(classes):
        return number
    text = str(target)
    known = f"Their numbers are 0 to {len(classes) - 1}." if text.lstrip("+-").isdecimal() else closest(text, classes)
    raise ValueError(f"class {quoted(target)} is none of the model's {len(classes)} classes. {known}")


def _stem(place: int, total: int, name: str) -> str:
    """Return a name for the files of a picture that every file system takes, unique and sorted by its number."""
    text = unicodedata.normalize("NFC", without_ending(as_text(name))).replace("/", "-")
    text = re.sub(r"[^\w.-]+", "_", text).strip("_.-").encode()[:_NAME].decode(errors="ignore")
    return f"{place + 1:0{len(str(total))}}-{text or 'picture'}"
