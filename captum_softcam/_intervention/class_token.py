"""Self-attention of the first token, for every masked copy of the tokens at once.

A mask changes the keys and values of single tokens, but not the query of the first token, which is never masked. So each
mask costs one softmax and one weighted sum over keys and values, which are computed once per weight of the mask.
"""

from __future__ import annotations

import inspect
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

__all__ = ["first_token_attention", "plain_settings"]


def plain_settings(args: tuple[Any, ...], kwargs: dict[str, Any]) -> dict[str, Any] | None:
    """Return the arguments of ``multi_head_attention_forward`` by name, None unless it is plain self-attention."""
    settings = inspect.signature(F.multi_head_attention_forward).bind(*args, **kwargs)
    settings.apply_defaults()
    given = settings.arguments
    unused = ("bias_k", "bias_v", "key_padding_mask", "attn_mask", "static_k", "static_v")
    flags = ("add_zero_attn", "need_weights", "use_separate_proj_weight", "is_causal")
    same = given["query"] is given["key"] is given["value"]
    dropout = given["training"] and given["dropout_p"] > 0
    plain = same and not dropout and all(given[name] is None for name in unused) and not any(given[name] for name in flags)
    return given if plain else None


def first_token_attention(
    tokens: Tensor, variants: dict[float, Tensor], weights: Tensor, settings: dict[str, Any], *, spread: bool
) -> Tensor:
    """Return the output of the first token in attention for every mask.

    Args:
        tokens (Tensor): (L, N, C), as they are.
        variants (dict): per weight of a mask, the tokens (L, N, C) with that weight; for weight 0 (1, 1, C).
        weights (Tensor): (P, L), the weight of each token under each mask; 1 for tokens before the grid.
        settings (dict): the arguments of ``multi_head_attention_forward``.
        spread (bool): whether a mask spreads the features of its own position instead of keeping each position's.

    Returns:
        Tensor: (1, N*P, C), the masks of an example in a row.
    """
    heads, (length, count, channels) = settings["num_heads"], tokens.shape
    query_weight, key_value_weight = settings["in_proj_weight"].split((channels, 2 * channels))
    bias = settings["in_proj_bias"]
    query_bias, key_value_bias = (None, None) if bias is None else bias.split((channels, 2 * channels))
    query = _heads(F.linear(tokens[:1], query_weight, query_bias), heads)  # (N, heads, 1, d)
    masks, prefix = len(weights), length - len(weights)
    # Filled completely below, because every token has one of the weights
    logits = query.new_full((count, heads, masks, length), -torch.inf)
    # The token whose content is at each place: its own, or that of the mask's position; prefix tokens are never spread
    own = torch.arange(length, device=tokens.device)
    source = own.repeat(masks, 1)
    if spread:
        source[:, prefix:] = own[prefix:, None]
    values: list[tuple[Tensor, Tensor]] = []
    for weight, variant in {**variants, 1.0: tokens}.items():
        here = weights == weight
        if not here.any():
            continue
        key, value = (_heads(part, heads) for part in F.linear(variant, key_value_weight, key_value_bias).chunk(2, -1))
        scores = (query @ key.transpose(-1, -2)).expand(count, -1, 1, length)[:, :, 0]
        logits = torch.where(here, scores[:, :, source], logits)
        values.append((here, value.expand(count, -1, length, -1)))
    attention = (logits * (channels // heads) ** -0.5).softmax(-1)
    read = torch.zeros_like(query)
    for here, value in values:
        part = attention * here
        if spread:
            # All spread features come from the position of the mask, which therefore gets the attention to all of them
            part = torch.cat((part[..., :prefix], torch.diag_embed(part[..., prefix:].sum(-1))), -1)
        read = read + part @ value
    read = read.transpose(1, 2).reshape(1, count * masks, channels)
    return F.linear(read, settings["out_proj_weight"], settings["out_proj_bias"])


def _heads(tokens: Tensor, heads: int) -> Tensor:
    """Return tokens (L, N, C) as (N, heads, L, d)."""
    length, count, channels = tokens.shape
    return tokens.view(length, count, heads, channels // heads).permute(1, 2, 0, 3)
