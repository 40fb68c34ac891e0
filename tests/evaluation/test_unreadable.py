"""Nothing stops for one file: a sample that cannot be read is named, counted and tried again by a resumed run."""

from __future__ import annotations

from pathlib import Path

from comparisons import SlowSamples, make_samples
from torch.utils.data import ConcatDataset, Subset

from captum_softcam.data.samples import ImageEntry, MaskedImages, identifier_of


def test_identifiers_are_known_without_reading():
    files = MaskedImages([ImageEntry(Path("nowhere"), 0, name) for name in "abc"], ["cat"])
    joined = ConcatDataset([files, Subset(files, [2, 0]), make_samples(2)])
    found = [identifier_of(joined, index) for index in range(len(joined))]
    assert found == ["a", "b", "c", "c", "a", "s0", "s1"]
    assert identifier_of(SlowSamples(3, 0), 1) == "sample 1"
