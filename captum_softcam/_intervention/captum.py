"""The only door to Captum's private helpers; each stands here with the reason for it."""

from captum._utils.common import (
    _format_additional_forward_args,  # None, one value or a tuple -> None or a tuple
    _format_tensor_into_tuples,  # a tensor or a tuple of tensors -> a tuple
    _run_forward,  # call the model the way Captum does
)

__all__ = [
    "format_additional_forward_args",
    "format_tensor_into_tuples",
    "run_forward",
]

format_additional_forward_args = _format_additional_forward_args
format_tensor_into_tuples = _format_tensor_into_tuples
run_forward = _run_forward
