"""ImageNet's classes under the names that libraries and folders have for them."""

from __future__ import annotations

import pytest
from torchvision.models import ResNet18_Weights

from captum_softcam._imagenet import imagenet_names, other_names, wordnet_ids


def test_they_are_those_of_torchvision():
    assert imagenet_names() == tuple(ResNet18_Weights.DEFAULT.meta["categories"])


def test_they_are_those_of_timm():
    info = pytest.importorskip("timm.data").ImageNetInfo("imagenet-1k")
    assert list(wordnet_ids()) == info.label_names()
    assert other_names(info.label_descriptions()) == other_names(imagenet_names()), "with synonyms"


def test_ids_are_in_the_order_of_the_logits():
    ids = wordnet_ids()
    assert len(set(ids)) == 1000
    assert list(ids) == sorted(ids)
    assert ids[0] == "n01440764"
    assert imagenet_names()[0] == "tench"


@pytest.mark.parametrize(
    ("classes", "expected"),
    [
        (["tench", "sea snake"], {"n01440764": 0, "tench": 0, "n01751748": 1, "sea snake": 1}),
        (["sea_snake", "Tench, Tinca tinca"], {"n01751748": 0, "sea snake": 0, "n01440764": 1, "tench": 1}),
        (["n01751748", "other"], {"n01751748": 0, "sea snake": 0}),
        (["melanoma", "nevus"], {}),
        ([], {}),
    ],
)
def test_some_of_the_classes(classes, expected):
    assert other_names(classes) == expected


def test_both_cranes_are_told_apart_by_their_place():
    """Without its synonyms, the bird (134) has the name of the machine (517)."""
    names = [name.replace("crane bird", "crane").replace("maillot tank suit", "maillot") for name in imagenet_names()]
    assert names.count("crane") == 2
    found = other_names(names)
    assert [found[wnid] for wnid in wordnet_ids()] == list(range(1000))


def test_a_thousand_other_classes_are_not_imagenet():
    assert other_names([f"class {number}" for number in range(1000)]) == {}
    shuffled = imagenet_names()[::-1]
    assert other_names(shuffled)["tench"] == 999
