"""The only door to Captum's private helpers; each stands here with the reason for it."""

from captum._utils.common import (
    _expand_target,  # one target per example -> one per masked copy, in all of Captum's target forms
    _format_additional_forward_args,  # None, one value or a tuple -> None or a tuple
    _format_tensor_into_tuples,  # a tensor or a tuple of tensors -> a tuple
    _run_forward,  # call the model the way Captum does and pick the target's score
    _select_targets,  # pick the target's score from scores (N, K), with Captum's own checks
)

__all__ = [
    "expand_target",
    "format_additional_forward_args",
    "format_tensor_into_tuples",
    "run_forward",
    "select_targets",
]

expand_target = _expand_target
format_additional_forward_args = _format_additional_forward_args
format_tensor_into_tuples = _format_tensor_into_tuples
run_forward = _run_forward
select_targets = _select_targets
