"""Small pictures of samples under their maps, in HTML for notebooks."""

from __future__ import annotations

import base64
import io
from typing import Any

import numpy as np
from markupsafe import Markup
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from captum_softcam._maps import PERCENTILE, scaled_map, upsample

__all__ = ["thumbnail"]

_SIDE = 160  # pixels
_FOR, _AGAINST = (230, 110, 0), (110, 60, 190)  # orange and purple, as in the report
_OPACITY = 0.85
_PICTURE = Markup('<img src="data:image/{};base64,{}" width="{}" height="{}" style="{}" alt="">')


def thumbnail(image: Tensor, attribution: Tensor | None = None) -> Markup:
    """Draw a picture in colours, or in grey under the colours of a map.

    Args:
        image (Tensor): (C, H, W), of any number of channels and any range.
        attribution (Tensor): (h, w), of any resolution. Default: none
    """
    pixels = _pixels(image)
    picture = Image.fromarray(pixels)
    picture.thumbnail((_SIDE, _SIDE))
    below = _encoded(picture, "jpeg", "display:block;margin:0" + (";filter:grayscale(1)" if attribution is not None else ""))
    if attribution is None:
        return below
    # Two pictures, so that the browser blends them: the map is opaque where it is strong.
    size = (picture.height, picture.width)
    over = Image.fromarray(_colours(upsample(attribution.cpu()[None, None], size)[0, 0].numpy()))
    return Markup('<div style="position:relative;display:inline-block">{}{}</div>').format(
        below, _encoded(over, "png", "position:absolute;left:0;top:0;margin:0")
    )


def _pixels(image: Tensor) -> NDArray[np.uint8]:
    """Return an image as bytes (H, W, 3); values beyond [0, 1] are scaled, other channels than three averaged."""
    values = image.detach().cpu().double().nan_to_num(0, 0, 0).numpy()
    low, high = min(values.min(), 0), max(values.max(), 1)
    channels = values if len(values) == 3 else np.broadcast_to(values.mean(0), (3, *values.shape[1:]))
    return np.asarray(np.moveaxis((channels - low) / (high - low) * 255, 0, -1).round(), np.uint8)


def _colours(attribution: NDArray[np.float32]) -> NDArray[np.uint8]:
    """Return a map as bytes (H, W, 4), transparent where it is 0 or not finite."""
    scaled = np.nan_to_num(scaled_map(attribution.astype(np.float64), PERCENTILE))
    alpha = np.abs(scaled) * _OPACITY * 255
    return np.dstack([np.where(scaled[..., None] > 0, _FOR, _AGAINST), alpha]).round().astype(np.uint8)


def _encoded(picture: Image.Image, form: str, style: str) -> Markup:
    file = io.BytesIO()
    options: dict[str, Any] = {"quality": 87} if form == "jpeg" else {}
    picture.save(file, form, **options)
    return _PICTURE.format(form, base64.b64encode(file.getvalue()).decode(), picture.width, picture.height, style)
