"""Choose the images that fill the mosaics of a comparison, once for all methods and batches."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from torch import Tensor, nn

from captum_softcam._scores import Scores
from captum_softcam.data.samples import UNKNOWN
from captum_softcam.evaluation.costs import device_of
from captum_softcam.evaluation.reader import SampleReader
from captum_softcam.evaluation.result import fingerprint
from captum_softcam.metrics import MosaicPool
from captum_softcam.metrics.mosaics import Candidate

__all__ = ["choose_pool"]


def choose_pool(
    reader: SampleReader, model: nn.Module, normalize: Callable[[Tensor], Tensor], scores: Scores
) -> tuple[MosaicPool, str]:
    """Take the first samples of each class, see :meth:`MosaicPool.chosen`, and name them for the manifest.

    Args:
        reader (SampleReader): the samples of the comparison.
        model (torch.nn.Module): predicts a class of each image of the pool.
        normalize (callable): turns images into inputs of the model.
        scores (str or callable): what the outputs of the model mean.

    Returns:
        tuple: the pool, and the identifiers of its samples, each with a digest. Cost: a forward per image taken.
    """
    seen, device = list[str](), device_of(model)

    def candidates() -> Iterator[Candidate]:
        for index in range(len(reader)):
            for sample in reader.readable([index], []):
                seen.append(f"{sample.identifier} ({fingerprint(sample)[:8]})")
                target = None if sample.target == UNKNOWN else sample.target
                yield Candidate(sample.image.to(device), target, frozenset((*(sample.labels or ()), *sample.undecided)))

    pool, places = MosaicPool.chosen(candidates(), model, scores, normalize)
    return pool, ", ".join(seen[place] for place in places)
