"""Recipro-CAM (Byun & Lee, CVPR Workshops 2024): keep one position of a feature map at a time and read the score.

Special: no gradients, and only the part of the network behind the layer runs once per position.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from captum.attr import LayerAttribution, PerturbationAttribution
from captum.log import log_usage
from torch import Tensor, nn
from tqdm import tqdm

from captum_softcam._captum import expand_target, format_additional_forward_args, format_tensor_into_tuples, run_forward
from captum_softcam._layers import Recording, record, refuse_flat_layer, run_tail

__all__ = ["LayerReciproCam"]


class LayerReciproCam(LayerAttribution, PerturbationAttribution):
    r"""Score of the class when only one position of a feature map is kept :cite:p:`byun2024reciprocam`.

    .. math:: S(p) = y_c\big(T(f \odot m_p)\big)

    with features :math:`f` (N, C, h, w) at ``layer``, masks :math:`m_p` that keep position :math:`p` of the h x w and
    set all others to zero, and the rest of the model :math:`T`.

    Departures from the paper: the map is raw and signed, not min-max scaled; the score is what ``forward_func`` returns,
    so put a softmax around the model for the paper's probabilities.

    Cost: one forward, then the tail of the model once per position, at most ``perturbations_per_eval`` copies at a time.
    What lies before the layer is run once per image.

    Worth knowing: with logits, behind a global average pooling and a linear classifier, the map is CAM / (hw) + bias.

    Args:
        forward_func (callable): the model or any function around it that returns scores (N, K).
        layer (torch.nn.Module): gives a map (N, C, h, w); 1-D and 3-D maps (N, C, ...) work alike. If it is called
            several times, the last call counts, as everywhere in Captum.
        device_ids (list of int): kept for Captum's signature. Default: None

    Example::

        >>> recipro_cam = LayerReciproCam(model, model.layer4)
        >>> recipro_cam.attribute(images, target=3).shape
        torch.Size([2, 1, 7, 7])
    """

    def __init__(self, forward_func: Callable[..., Tensor], layer: nn.Module, device_ids: list[int] | None = None) -> None:
        LayerAttribution.__init__(self, forward_func, layer, device_ids)
        PerturbationAttribution.__init__(self, forward_func)

    @log_usage()
    @torch.no_grad()
    def attribute(
        self,
        inputs: Tensor | tuple[Tensor, ...],
        target: Any = None,
        additional_forward_args: Any = None,
        attribute_to_layer_input: bool = False,
        relu_attributions: bool = False,
        perturbations_per_eval: int = 64,
        show_progress: bool = False,
    ) -> Tensor:
        """Maps of the class ``target`` at layer resolution.

        Args:
            inputs (Tensor or tuple of Tensor): model inputs, examples first.
            target (int, tuple, Tensor or list): the class, in any of Captum's forms. Default: None
            additional_forward_args (any): passed to ``forward_func``; tensors with one row per example are handed on
                row by row. Default: None
            attribute_to_layer_input (bool): mask what the layer reads, not what it gives. Default: False
            relu_attributions (bool): set negative scores to 0. Default: False
            perturbations_per_eval (int): masked copies per run of the tail; bounds the memory, does not change the map.
                Default: 64
            show_progress (bool): show a bar over images and chunks. Default: False

        Returns:
            Tensor: (N, 1, h, w), raw and signed, in units of the score.

        Raises:
            TypeError: if the layer is no module.
            ValueError: if the layer gives no spatial map or is not part of the model, if the model is in train mode, or
                if ``perturbations_per_eval`` is below 1.
            AssertionError, IndexError: for a target that does not fit the scores, as Captum raises them.
        """
        if perturbations_per_eval < 1:
            raise ValueError(f"perturbations_per_eval must be at least 1; got {perturbations_per_eval}.")
        inputs = format_tensor_into_tuples(inputs)
        args = format_additional_forward_args(additional_forward_args)
        recording = record(
            lambda: run_forward(self.forward_func, inputs, target, args), self.layer, at_input=attribute_to_layer_input
        )
        features = recording.features
        refuse_flat_layer(features, type(self).__name__, self.forward_func, self.layer, (*inputs, *(args or ())))
        _refuse_wrong_scores(recording.result, len(features))
        count = len(features)
        examples = [(_row((inputs, args), row, count), _target_row(target, row, count)) for row in range(count)]
        positions = features[0, 0].numel()
        chunks = torch.arange(positions, device=features.device).split(perturbations_per_eval)
        with tqdm(total=count * len(chunks), desc=self.get_name(), disable=not show_progress) as bar:
            scores = [
                self._scores(recording, row, example, chunk, attribute_to_layer_input, bar)
                for row, example in enumerate(examples)
                for chunk in chunks
            ]
        maps = torch.cat(scores).view(len(features), 1, *features.shape[2:])
        return maps.relu() if relu_attributions else maps

    def _scores(self, recording: Recording, row: int, example: Any, chunk: Tensor, at_input: bool, bar: tqdm[Any]) -> Tensor:
        """Scores (P,) of one example with only the positions of ``chunk`` kept, one at a time."""
        kept, count = _keep_one(recording.features[row], chunk), len(chunk)
        (inputs, args), target = example
        inputs, args, target = (_copies(inputs, count), _copies(args, count), _target_copies(target, count))

        def forward() -> Any:
            return run_forward(self.forward_func, inputs, target, args)

        scores: Tensor = run_tail(recording, self.layer, kept, row, forward, at_input=at_input)
        bar.update()
        return scores


def _keep_one(features: Tensor, positions: Tensor) -> Tensor:
    """Copies (P, C, h, w) of features (C, h, w), each zero but at one of the ``positions`` (P,)."""
    kept = features.new_zeros(len(positions), *features.shape)
    copies = torch.arange(len(positions), device=features.device)
    kept.flatten(2)[copies, :, positions] = features.flatten(1)[:, positions].T
    return kept


def _row(value: Any, row: int, count: int) -> Any:
    """One example of inputs or arguments; what is no tensor with one row per example stays as it is."""
    if isinstance(value, tuple):
        return tuple(_row(part, row, count) for part in value)
    if isinstance(value, Tensor) and value.dim() and len(value) == count:
        return value[row : row + 1]
    return value


def _target_row(target: Any, row: int, count: int) -> Any:
    """The target of one example; a target that holds for all of them stays as it is."""
    per_example = isinstance(target, (list, Tensor)) and not (isinstance(target, Tensor) and target.numel() == 1)
    return target[row : row + 1] if per_example and len(target) == count else target


def _copies(values: tuple[Any, ...] | None, count: int) -> Any:
    """Each tensor (1, ...) seen ``count`` times, without a copy."""
    if values is None:
        return None
    return tuple(
        value.expand(count, *value.shape[1:]) if isinstance(value, Tensor) and value.dim() and len(value) == 1 else value
        for value in values
    )


def _target_copies(target: Any, count: int) -> Any:
    """The target of one example for each of its copies."""
    if isinstance(target, Tensor) and target.numel() == 1:
        return target.item()
    return expand_target(target, count)


def _refuse_wrong_scores(scores: Any, count: int) -> None:
    if not isinstance(scores, Tensor) or scores.shape != (count,):
        got = tuple(scores.shape) if isinstance(scores, Tensor) else type(scores).__name__
        raise ValueError(
            f"the model gives {got} for this target; LayerReciproCam needs one score per example, ({count},). "
            "Give the class as target."
        )
