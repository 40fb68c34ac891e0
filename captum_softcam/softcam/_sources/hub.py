"""The hub of Hugging Face, from which timm and transformers download: say at once that it cannot be reached."""

from __future__ import annotations

import socket
import urllib.request
from typing import NoReturn
from urllib.parse import urlsplit

from captum_softcam._names import NAME, reason, shown

__all__ = ["cached_file", "is_reachable", "refuse_unreachable"]


def is_reachable() -> bool:
    """Check whether the address of the hub is known here."""
    # The client of the hub retries for most of a minute where it is not. Behind a proxy only the client itself can tell.
    from huggingface_hub import constants

    host = urlsplit(constants.ENDPOINT).hostname
    if urllib.request.getproxies() or host is None:
        return True
    try:
        socket.getaddrinfo(host, 443)
    except OSError:
        return False
    return True


def refuse_unreachable(name: str, cure: str, error: object = "its address is not known here") -> NoReturn:
    """Raise ConnectionError for a network that cannot be downloaded.

    Args:
        name (str): the network, with its door.
        cure (str): what to do, as the end of a sentence.
        error (object): the reason. Default: that the address of the hub is not known
    """
    raise ConnectionError(f"{shown(name)} could not be loaded from the hub of Hugging Face ({reason(error, NAME)}); {cure}.")


def cached_file(repository: str, name: str | None = None) -> str | None:
    """Return the path of the weights of a repository that were downloaded before, as safetensors; None if there are none."""
    from huggingface_hub import try_to_load_from_cache

    name = name or "model.safetensors"
    found = try_to_load_from_cache(repository, name) if name.endswith(".safetensors") else None
    return found if isinstance(found, str) else None
