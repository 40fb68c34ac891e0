"""Samples of the data sets that users have: the right sample, or words that name the item and the way out."""

from __future__ import annotations

import io
import pickle
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
import torch
from comparisons import make_model, sorted_scores
from image_files import SIDE, draw
from networks import PooledNet
from PIL import Image
from torch.utils.data import ConcatDataset, DataLoader, IterableDataset, Subset, TensorDataset, random_split
from torchvision import tv_tensors
from torchvision.datasets import FakeData, ImageFolder
from torchvision.transforms import v2

from captum_softcam.data import Fit, Reading, Sample, Samples, read_image
from captum_softcam.data.samples import groups_of, identifier_of
from captum_softcam.evaluation import accuracy, class_performance, compare_methods, explain_sample
from captum_softcam.softcam import Classifier

SCALED = v2.Compose([v2.ToImage(), v2.ToDtype(torch.float32, scale=True)])
CLASSES = ("cat", "dog", "eel", "fox")
LABELS = [[1, 0, 1, 0], [0, 0, 0, 0], [0, 1, 1, -1]]


def picture(seed: int = 0, height: int = 6, width: int = 8) -> Image.Image:
    return Image.fromarray(np.random.default_rng(seed).integers(1, 255, (height, width, 3), np.uint8))


def region(*corner: int) -> np.ndarray:
    """A mask of 6 x 8 pixels with one pixel."""
    mask = np.zeros((6, 8), np.uint8)
    mask[corner or (2, 5)] = 255
    return mask


def pixels(image: Image.Image) -> torch.Tensor:
    return torch.from_numpy(np.array(image.convert("RGB"))).permute(2, 0, 1) / 255


MASKS = {
    "pil": Image.fromarray(region()),
    "palette": Image.fromarray(region() // 100).convert("P"),
    "array": region(),
    "channel last": region()[..., None],
    "bool": torch.from_numpy(region() > 0),
    "ids": torch.from_numpy(region()).long()[None],
    "soft": torch.from_numpy(region() / 255),
    "tv": tv_tensors.Mask(torch.from_numpy(region())),
}
ITEMS = {
    "image, label, mask": lambda mask: (picture(), 3, mask),
    "image, mask, label": lambda mask: (picture(), mask, 3),
    "nested": lambda mask: (picture(), (3, mask)),  # as OxfordIIITPet(target_types=["category", "segmentation"])
    "list": lambda mask: [picture(), torch.tensor(3), mask],
    "dict": lambda mask: {"img": picture(), "label": np.int64(3), "mask": mask, "age": 70},
    "inner dict": lambda mask: (picture(), {"labels": torch.tensor([3]), "masks": mask, "image_id": 7}),
}


@pytest.mark.parametrize("item", ITEMS)
@pytest.mark.parametrize("mask", MASKS)
def test_the_parts_of_an_item_are_found(item, mask):
    (sample,) = Samples.of([ITEMS[item](MASKS[mask])])
    assert torch.equal(sample.image, pixels(picture()))
    assert (sample.target, sample.identifier, sample.group, sample.labels) == (3, "000000", None, None)
    assert sample.mask.dtype == torch.bool
    assert sample.mask.nonzero().tolist() == [[0, 2, 5]]


@pytest.mark.parametrize(
    ("item", "target", "masked"),
    [
        ((picture(), 1), 1, False),
        ((picture(), MASKS["pil"]), -1, True),  # as VOCSegmentation
        ((picture(), None), -1, False),
        ((picture(), None, MASKS["pil"]), -1, True),
        ((picture(), 2, None), 2, False),
        ((picture(), 2, np.zeros((6, 8))), 2, False),
        ({"image": picture(), "label": 2, "mask": None}, 2, False),
        ({"image": picture(), "label": 2, "mask": float("nan")}, 2, False),  # a row of pandas
        ({"image": picture(), "label": 2, "mask": ""}, 2, False),
        ((picture(),), -1, False),
        (picture(), -1, False),
    ],
)
def test_class_and_mask_may_be_missing(item, target, masked):
    (sample,) = Samples.of([item])
    assert (sample.target, sample.mask is not None) == (target, masked)


def test_masks_are_read_for_what_they_mean():
    """By the rules of mask files, which have tests of their own."""
    large = np.zeros((40, 40), np.uint8)
    large[10:30, 10:30] = 255
    stream = io.BytesIO()
    Image.fromarray(large).save(stream, "JPEG", quality=30)
    with pytest.warns(UserWarning, match="crowd at both ends"):
        (noisy,) = Samples.of([(picture(0, 40, 40), 0, Image.open(stream))])
    assert torch.equal(noisy.mask[0], torch.from_numpy(large > 0))
    soft = np.linspace(0, 1, 48).reshape(6, 8)
    assert Samples.of([(picture(), 0, soft)], reading=Reading(threshold=0.5))[0].mask.sum() == 24
    void = region()
    void[0] = 7
    assert Samples.of([(picture(), 0, void)], reading=Reading(ignore=7))[0].mask.nonzero().tolist() == [[0, 2, 5]]
    coloured = np.zeros((6, 8, 3), np.uint8)
    coloured[2, 5] = (0, 0, 9)
    for mask in (coloured, Image.fromarray(coloured)):
        assert Samples.of([(picture(), 0, mask)], mask=2)[0].mask.nonzero().tolist() == [[0, 2, 5]]
    with pytest.warns(UserWarning, match="mask 'sample 0 of the data set' covers the whole image"):
        Samples.of([(picture(), 0, np.ones((6, 8)))])


def test_a_signal_has_a_mask():
    mask = torch.arange(64) > 50
    for each in (mask, mask[None], mask.numpy()):
        (sample,) = Samples.of([{"signal": torch.randn(2, 64), "label": 1, "mask": each}])
        assert torch.equal(sample.mask, mask[None])


def test_what_may_be_a_mask_is_not_dropped_in_silence():
    mask = torch.arange(64) > 50
    with pytest.warns(UserWarning, match=r"part 2 of the items is not used, a tensor \(64,\) of bool; pass mask=2"):
        assert Samples.of([(torch.randn(2, 64), 1, mask)], label=1)[0].mask is None
    assert Samples.of([(torch.randn(2, 64), 1, mask)], label=1, mask=2)[0].mask.sum() == 13
    two = torch.zeros(2, 6, 8)
    two[0, 1, 1] = 1
    with pytest.raises(ValueError, match="unite its masks, or pass multilabel=True"):
        Samples.of([(picture(), 1, two)])
    assert Samples.of([(picture(), [1, 2], two)], multilabel=True)[0].mask.sum() == 1


def test_a_later_mask_is_found_where_the_first_one_is_none():
    assert [s.mask is None for s in Samples.of([(picture(), 0, None), (picture(), 1, region())])] == [True, False]


@pytest.mark.parametrize(
    ("label", "target"),
    [
        (2, 2),
        (np.int32(2), 2),
        (np.array([2]), 2),
        (torch.tensor(2), 2),
        (2.0, 2),
        (True, 1),
        ("eel", 2),
        (["eel"], 2),
        (torch.tensor([0, 0, 1, 0]), 2),
        (np.array([0.0, 0, 1, 0]), 2),
        (None, -1),
        (-1, -1),
        (float("nan"), -1),
    ],
)
def test_labels(label, target):
    assert Samples.of([(picture(), label)], classes=CLASSES)[0].target == target


@pytest.mark.parametrize(
    ("label", "words"),
    [
        ("fix", "has the unknown class 'fix'. Closest: 'fox'"),
        (1.5, "has the label 1.5; expected the number or the name of a class"),
        (-2, "has the label -2"),
        (float("inf"), "has the label inf"),
        (torch.tensor([1, 1, 0, 0]), "no single class; pass multilabel=True"),
        ([0, 2], "no single class"),
        (np.array([0.9, 0.1, 0, 0]), "no single class"),
        (object, "expected the number or the name"),
    ],
)
def test_labels_that_are_none(label, words):
    with pytest.raises(ValueError, match="sample 0 of the data set") as caught:
        Samples.of([(picture(), label)], classes=CLASSES)
    assert words in str(caught.value)


def test_a_name_needs_the_names():
    with pytest.raises(ValueError, match="has the class 'cat'; pass classes="):
        Samples.of([(picture(), "cat")])


SHAPES = {
    (3, 20, 30): (3, 20, 30),
    (20, 30, 3): (3, 20, 30),
    (20, 30): (1, 20, 30),
    (20, 30, 1): (1, 20, 30),
    (13, 20, 30): (13, 20, 30),  # a satellite's
    (2, 300): (2, 300),
    (1, 9, 20, 30): (1, 9, 20, 30),
    (9, 20, 30, 2): (2, 9, 20, 30),
}


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("kind", [np.asarray, torch.from_numpy])
def test_channels_are_told_by_the_shape(shape, kind):
    values = np.random.default_rng(0).random(shape)
    (sample,) = Samples.of([(kind(values), 0)])
    assert tuple(sample.image.shape) == SHAPES[shape]
    assert sample.image.dtype == torch.float32
    moved = values if sample.image.shape == shape else np.moveaxis(values.reshape(*shape), -1, 0)
    assert np.allclose(sample.image.reshape(-1), (values if len(shape) == 2 else moved).reshape(-1))


@pytest.mark.parametrize("shape", [(3, 224, 3), (64, 64, 64), (64, 256), (2, 2, 2, 2, 2), (4, 8, 8, 4)])
def test_a_shape_of_two_meanings_is_refused(shape):
    with pytest.raises(ValueError, match=r"sample 0 .* does not tell where its channels are; pass channels='first'"):
        Samples.of([(np.zeros(shape), 0)])


def test_the_channels_can_be_said():
    ways = {"first": (3, 12, 3), "last": (3, 3, 12), "none": (1, 3, 12, 3)}
    assert {way: tuple(Samples.of([(np.zeros((3, 12, 3)), 0)], channels=way)[0].image.shape) for way in ways} == ways
    assert Samples.of([(np.zeros(50), 0)], image=0, label=1, channels="none")[0].image.shape == (1, 50)
    with pytest.raises(ValueError, match=r"channels 'frist' is unknown\. Closest: 'first'"):
        Samples.of([(np.zeros(50), 0)], channels="frist")


@pytest.mark.parametrize(
    ("kind", "reading", "brightest"),
    [
        (np.uint8, Reading(), 200 / 255),
        (np.int64, Reading(), 200 / 255),
        (np.uint16, Reading(window=(0, 400)), 0.5),
        (np.int16, Reading(window=(0, 100)), 1),
        (">u2", Reading(window=(0, 400)), 0.5),
        (np.float64, Reading(window=(0, 400)), 0.5),
    ],
)
def test_values_become_fractions(kind, reading, brightest):
    values = np.full((1, 8, 8), 200).astype(kind)
    assert float(Samples.of([(values, 0)], reading=reading)[0].image.max()) == pytest.approx(brightest)


@pytest.mark.parametrize("kind", [torch.float16, torch.bfloat16, torch.float64, torch.bool])
def test_types_of_floats(kind):
    image = torch.eye(8).to(kind)[None]
    assert torch.equal(Samples.of([(image, 0)])[0].image, torch.eye(8)[None])


def test_deep_pictures_are_shown_from_end_to_end():
    values = np.arange(100, 164, dtype=np.uint16).reshape(8, 8)
    deep = [Image.fromarray(values.astype(kind)) for kind in (np.uint16, np.int32, np.float32)]
    for image, channels in ((values, 1), *((image, 3) for image in deep)):
        with pytest.warns(UserWarning, match=r"more than 8 bits has no window: .* pass window="):
            found = Samples.of([(image, 0)])[0].image
        assert torch.allclose(found, (torch.arange(64) / 63).view(1, 8, 8).expand(channels, 8, 8))


def test_a_signal_keeps_its_values():
    signals = 3 * torch.randn(4, 2, 64)
    samples = Samples.of(TensorDataset(signals, torch.arange(4)))
    assert torch.equal(torch.stack([sample.image for sample in samples]), signals)
    with pytest.raises(ValueError, match=r"sample 0 of the data set is a signal \(2, 64\), not a picture"):
        Samples.of(samples, size=8)


@pytest.mark.parametrize(
    ("transform", "words"),
    [
        (v2.Compose([SCALED, v2.Normalize([0.5] * 3, [0.5] * 3)]), "take Normalize out of the data set's transforms"),
        (
            v2.Compose([v2.ToImage(), v2.ToDtype(torch.float32)]),
            r"divide bytes by 255, .*ToDtype\(.*scale=True\)",
        ),
        (v2.Compose([SCALED, lambda image: image * 90]), r"Reading\(window=\(low, high\)\)"),
        (v2.Compose([SCALED, lambda image: image * 4000]), r"Reading\(window=\(low, high\)\)"),
        (v2.Compose([SCALED, lambda image: image * torch.nan]), "not finite"),
    ],
)
def test_values_that_no_picture_has(transform, words):
    with pytest.raises(ValueError, match=f"sample 0 of the data set has an image with values .*{words}"):
        Samples.of(FakeData(2, (3, 8, 8), 2, transform=transform))


def test_an_overshoot_is_cut_off():
    assert Samples.of([(torch.tensor([-0.02, 1.03]).repeat(1, 6, 4), 0)])[0].image.unique().tolist() == [0, 1]


def test_a_photograph_is_upright(tmp_path):
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.fromarray(region()).save(tmp_path / "a.png", exif=exif)
    stored = Image.open(tmp_path / "a.png")
    (sample,) = Samples.of([(stored, 0)])
    assert sample.image.nonzero().tolist() == [[channel, 5, 3] for channel in range(3)]  # turned by a quarter to the right
    assert torch.equal(Samples.of([(str(tmp_path / "a.png"), 0)])[0].image, sample.image)
    (masked,) = Samples.of([(stored, 0, region())])  # drawn on the stored pixels
    assert masked.mask.nonzero().tolist() == [[0, 5, 3]]


@pytest.mark.parametrize("ending", ["jpg", "png", "webp"])
def test_a_damaged_block_of_exif_does_not_stop_the_image(tmp_path, ending):
    Image.fromarray(region()).save(tmp_path / f"a.{ending}", exif=b"Exif\0\0garbage in place of a block")
    with Image.open(tmp_path / f"a.{ending}") as stored:
        assert torch.equal(Samples.of([(stored, 0)])[0].image, read_image(tmp_path / f"a.{ending}"))


def test_files_are_read_when_they_are_needed(tmp_path):
    draw(tmp_path / "a.png")
    draw(tmp_path / "b/a.png")
    Image.fromarray(np.eye(SIDE, dtype=bool)).save(tmp_path / "mask.png")
    rows = [{"image": tmp_path / name, "label": 1, "mask": str(tmp_path / "mask.png")} for name in ("a.png", "b/a.png")]
    samples = Samples.of(rows)
    assert [samples.identifier(index) for index in range(2)] == ["a.png", "b/a.png"]
    assert samples[1].image.shape[1:] == samples[1].mask.shape[1:]
    (tmp_path / "b/a.png").unlink()
    with pytest.raises(FileNotFoundError, match=r"b/a.png' is not a file"):
        samples[1]


@pytest.mark.parametrize(
    ("dataset", "words"),
    [
        (
            [(picture(), 0), (picture(),)],
            "sample 1 of the data set is a tuple of 1 (a PIL image of mode RGB and 8x6 pixels)",
        ),
        (
            [{"image": picture(), "label": 0}, {"image": picture(), "age": 0}],
            "sample 1 of the data set is a dict with the keys",
        ),
        ([(picture(), 0), (None, 0)], "sample 1 of the data set has None as its image"),
        ([(picture(), 0), (np.array([[None]]), 0)], "sample 1 of the data set has an array (1, 1) of object as its image"),
        (
            [(picture(), 0), (torch.eye(8)[None].to_sparse(), 0)],
            "sample 1 of the data set has a tensor (1, 8, 8) of float32",
        ),
        ([(picture(), 0), (torch.eye(8)[None] * 1j, 0)], "of complex64 as its image; expected real numbers"),
        ([(picture(), 0), (picture(), "cat")], "sample 1 of the data set has the class 'cat'"),
        (
            [(picture(), 0, region()), (picture(), 0, region().T)],
            "has an array (8, 6) of uint8 as its mask, and an image of (6, 8)",
        ),
        ([Sample(torch.zeros(3, 8, 8), 0, None, "a"), 7], "sample 1 of the data set is 7; expected a Sample"),
    ],
)
def test_an_item_unlike_the_first_is_named(dataset, words):
    samples = Samples.of(dataset)
    with pytest.raises(ValueError, match="data set") as caught:
        samples[1]
    assert words in str(caught.value)


@pytest.mark.parametrize(
    ("item", "words"),
    [
        ((picture(), 1, 7), "several parts of it could be the label: pass label=1 or label=2"),
        ((picture(), region(), region()), "several parts of it could be the mask: pass mask=1 or mask=2"),
        ({"image": picture(), "label": 1, "target": 7}, "pass label='label' or label='target'"),
        ((7, 1), "expected an image, or its key or position as image="),
        (((picture(), picture(1)), 1), "beside its image; pass mask=(0, 1) if that is the mask"),
        ((torch.rand(3, 6, 8), torch.rand(3, 6, 8), 1), "beside its image; pass mask=1 if that is the mask"),
        ((picture(), 1, "a.png"), "has the file 'a.png' beside its image; pass mask=2 if it is the mask, or identifier=2"),
        ({"a": 1}, "is a dict with the keys a; expected an image"),
        ((torch.rand(2, 3, 8, 8), torch.tensor([0, 1])), "a batch of 2; pass a data set of single images"),
    ],
)
def test_a_first_item_of_two_meanings_is_refused(item, words):
    with pytest.raises(ValueError, match="sample 0 of the data set") as caught:
        Samples.of([item])
    assert words in str(caught.value)


def test_parts_can_be_named():
    assert Samples.of([(picture(), 1, "a.png")], identifier=2)[0].identifier == "a.png"
    assert Samples.of([(picture(), 1, 7)], label=2)[0].target == 7
    assert Samples.of([(picture(), (1, 7, region()))], label=(1, 0), mask=(1, 2))[0].target == 1
    assert Samples.of([{"image": picture(), "age": 3}], label="age")[0].target == 3
    with pytest.warns(UserWarning, match="the boxes of the data set are not used as regions"):
        assert Samples.of([(picture(), {"boxes": 1, "kind": 3})], label="kind")[0].target == 3
    with pytest.raises(ValueError, match="is a dict with the keys image, age; it has no label 'aeg'"):
        Samples.of([{"image": picture(), "age": 3}], label="aeg")
    with pytest.warns(UserWarning, match="none of the keys age has its name; pass one of them as label="):
        Samples.of([{"image": picture(), "age": 3}])


class Stream(IterableDataset):
    def __iter__(self):
        yield picture(), 0


@pytest.mark.parametrize(
    ("dataset", "kind", "words"),
    [
        (DataLoader(FakeData(2)), TypeError, "got a DataLoader: pass loader.dataset"),
        (Stream(), TypeError, "got a Stream: .*itertools.islice"),
        (iter([1]), TypeError, "got a list_iterator"),
        ({"train": [], "test": []}, TypeError, "a dict with the keys train, test: pass one of its parts"),
        ("images", TypeError, "got 'images': pass what reads it"),
        ({"train": [], "valid": []}, TypeError, r"pass one of its parts, such as dataset\['valid'\]"),
        ((torch.rand(5, 3, 8, 8), torch.arange(5)), ValueError, r"pass list\(zip\(\*dataset\)\)"),
        ([np.zeros((5, 8, 8)), np.zeros(5)], ValueError, r"pass list\(zip\(\*dataset\)\)"),
        ({"image": [picture()], "label": [0]}, ValueError, r"pass list\(zip\(\*dataset.values\(\)\)\)"),
        ({"x": torch.rand(5, 3, 8, 8), "y": torch.arange(5)}, ValueError, r"pass list\(zip\(\*dataset.values\(\)\)\)"),
        (pd.DataFrame({"image": ["a.png"], "label": [0]}), TypeError, r"pass table.to_dict\('records'\)"),
        ([], ValueError, "has no items"),
    ],
)
def test_what_is_no_data_set(dataset, kind, words):
    with pytest.raises(kind, match=words):
        Samples.of(dataset)


def test_samples_are_not_called():
    with pytest.raises(TypeError, match=r"made by Samples.of\(dataset\)"):
        Samples(FakeData(2))


def test_columns_become_items_as_the_message_says():
    dataset = {"image": torch.rand(2, 3, 8, 8), "label": torch.tensor([1, 0])}
    assert [sample.target for sample in Samples.of(list(zip(*dataset.values(), strict=True)))] == [1, 0]
    assert len(Samples.of([np.zeros((8, 8, 3)), np.zeros((8, 8))])) == 2  # pictures, one of them grey


def test_samples_stay_samples():
    own = [Sample(torch.rand(3, 8, 8), 1, torch.zeros(1, 8, 8), "a", group="g"), Sample(torch.rand(3, 8, 8), 0, None, "b")]
    samples = Samples.of(own, size=4)
    assert (samples[0].image.shape, samples[0].mask, samples[0].identifier) == ((3, 4, 4), None, "a")
    assert (groups_of(samples), identifier_of(samples, 1)) == (["g", "b"], "b")
    with pytest.raises(ValueError, match="the data set has samples already"):
        Samples.of(own, classes=CLASSES)


def test_the_square_holds_image_and_mask():
    with pytest.warns(UserWarning, match="sample '000000' has nothing to localise"):
        assert Samples.of([(picture(), 0, region(2, 7))], size=4, fit=Fit("crop"))[0].mask is None
    assert Samples.of([(picture(), 0, region(2, 7))], size=4)[0].mask.nonzero().tolist() == [[0, 1, 3]]
    with pytest.raises(ValueError, match="size is the side of a sample"):
        Samples.of([(picture(), 0)], size=0)


def test_parts_of_data_sets_keep_their_names():
    fake = FakeData(6, (3, 8, 8), 3)
    assert [Samples.of(Subset(fake, [5, 2])).identifier(index) for index in range(2)] == ["000005", "000002"]
    assert Samples.of(Subset(Subset(fake, [5, 2, 3]), [2])).identifier(0) == "000003"
    assert Samples.of(Subset(fake, [5, 5])).identifier(1) == "000001"
    assert Samples.of(fake)[-1].identifier == "000005"
    with pytest.raises(IndexError, match="range object"):
        Samples.of(fake)[6]
    first, second = random_split(fake, [2, 4], torch.Generator().manual_seed(0))
    assert len(set(groups_of(Samples.of(first)) + groups_of(Samples.of(second)))) == 6
    joined = Samples.of(ConcatDataset([fake, fake]))
    assert (len(joined), identifier_of(Subset(joined, [7]), 0), joined[7].target) == (
        12,
        "000007",
        Samples.of(fake)[1].target,
    )


def test_a_name_of_the_users_own():
    rows = [{"image": picture(), "label": 0, "patient": name} for name in ("ann", "bob")]
    assert Samples.of(rows, identifier="patient")[1].identifier == "bob"
    assert Samples.of([{**row, "id": 7 + index} for index, row in enumerate(rows)])[1].identifier == "8"
    assert Samples.of([{**row, "id": 7} for row in rows])[1].identifier == "000001"
    with pytest.raises(ValueError, match="2 items have the identifier 'ann'"):
        Samples.of([rows[0], rows[0]], identifier="patient")


def test_chance_is_said():
    turn = iter(range(9))
    with pytest.warns(UserWarning, match="another image whenever the same index is read"):
        Samples.of(FakeData(2, (3, 8, 8), 2, transform=lambda image: image.rotate(90 * next(turn))))


class Picky:
    """A data set of torch's that raises errors of its own."""

    def __len__(self):
        return 2

    def __getitem__(self, index):
        if index:
            raise KeyError("no such scan")
        return picture(), 0


def test_an_error_of_the_data_set_has_its_index():
    with pytest.raises(ValueError, match=r"sample 1 of the data set cannot be read: KeyError\('no such scan'\)"):
        Samples.of(Picky())[1]


def several(*extra):
    return [(picture(index), label, *extra) for index, label in enumerate(LABELS)]


@pytest.mark.parametrize("kind", [list, torch.tensor, np.array])
def test_an_image_may_show_several_classes(kind):
    with pytest.warns(UserWarning, match="1 of 3 images show none of the classes and make no sample"):
        samples = Samples.of([(image, kind(label)) for image, label in several()], classes=CLASSES, multilabel=True)
    assert [(s.identifier, s.group, s.target, s.labels, s.undecided) for s in samples] == [
        ("000000/cat", "000000", 0, (0, 2), ()),
        ("000000/eel", "000000", 2, (0, 2), ()),
        ("000002/dog", "000002", 1, (1, 2), (3,)),
        ("000002/eel", "000002", 2, (1, 2), (3,)),
    ]
    assert groups_of(samples) == ["000000", "000000", "000002", "000002"]
    assert torch.equal(samples[3].image, pixels(picture(2)))


def test_a_list_of_classes():
    rows = [(picture(), ["eel", "cat"]), (picture(), ["fox"])]
    assert [s.labels for s in Samples.of(rows, classes=CLASSES, multilabel=True)] == [(0, 2), (0, 2), (3,)]
    with pytest.raises(ValueError, match="labels are vectors of 2 elements, for 4 classes"):
        Samples.of([(picture(), [1, 0])], classes=CLASSES, multilabel=True)
    rows = [(picture(), [2, 0]), (picture(), [3])]
    assert [s.target for s in Samples.of(rows, multilabel=True)] == [0, 2, 3]


def test_each_class_has_its_mask():
    masks = torch.zeros(4, 6, 8)
    masks[0, 0, 0], masks[2, 5, 7] = 1, 1
    samples = Samples.of([(picture(), torch.tensor(LABELS[0]), masks)], multilabel=True)
    assert [s.mask.nonzero().tolist() for s in samples] == [[[0, 0, 0]], [[0, 5, 7]]]
    three = Samples.of([(picture(), torch.tensor(LABELS[0])[:3], masks[:3])], multilabel=True)  # not a colour picture
    assert [s.mask.nonzero().tolist() for s in three] == [[[0, 0, 0]], [[0, 5, 7]]]
    found = {"labels": torch.tensor([3, 1, 3]), "masks": masks[[0, 1, 2]]}  # objects, as those of detectors
    samples = Samples.of([(picture(), found)], multilabel=True)
    assert [(s.target, s.mask is None) for s in samples] == [(1, True), (3, False)]
    assert samples[1].mask.nonzero().tolist() == [[0, 0, 0], [0, 5, 7]]
    with pytest.raises(
        ValueError, match=r"shows the classes 0, 2; expected a mask for each element of its label, \(4, ...\)"
    ):
        Samples.of([(picture(), torch.tensor(LABELS[0]), region())], multilabel=True)
    assert Samples.of([(picture(), torch.tensor([0, 1]), region())], multilabel=True)[0].mask.any()


@pytest.mark.parametrize("missing", [-1, torch.nan, None])
def test_what_is_missing_in_a_vector_is_undecided(missing):
    """NaN, as in torchxrayvision, does not turn the vector into a list of the classes 1 and 0."""
    (sample,) = Samples.of([(picture(), [1, 0, missing])], multilabel=True)
    assert (sample.target, sample.labels, sample.undecided) == (0, (0,), (2,))
    with pytest.raises(ValueError, match="which is no single class; pass multilabel=True"):
        Samples.of([(picture(), [1, 0, missing])])


def test_classes_of_boxes_are_lists():
    """As torchvision's detection models have them: vectors of ones are twice the class 1, not the classes 0 and 1."""
    target = {"boxes": torch.ones(2, 4), "labels": torch.tensor([1, 1]), "masks": np.stack([region(), region(3, 3)])}
    (sample,) = Samples.of([(picture(), target)], multilabel=True)
    assert (sample.target, sample.labels) == (1, (1,))
    assert sample.mask.sum() == 2


def test_no_image_shows_a_class():
    with pytest.raises(ValueError, match="no image of the data set shows a class"):
        Samples.of([(picture(), [0, 0])], multilabel=True)
    with pytest.raises(ValueError, match="name its label by label="):
        Samples.of([picture()], multilabel=True)


class Moody(Picky):
    """A data set whose labels are not those of its items."""

    targets = (np.array([1, 0]), np.array([1, 1]))

    def __getitem__(self, index):
        return picture(), np.array([1, 0])


class Shifted(Moody):
    """A data set whose transform changes all labels."""

    targets = (np.array([0, 1]), np.array([0, 1]))


def test_labels_that_a_transform_changes_are_read():
    assert [s.target for s in Samples.of(Shifted(), multilabel=True)] == [0, 0]


def test_a_label_that_differs_from_the_list_is_refused():
    samples = Samples.of(Moody(), multilabel=True)
    assert len(samples) == 3
    with pytest.raises(ValueError, match="sample 1 of the data set shows the classes 0, but 0, 1 before"):
        samples[2]


@pytest.fixture
def folder(tmp_path):
    for name in ("cat/1.png", "cat/2.png", "dog/1.png"):
        draw(tmp_path / name)
    return ImageFolder(tmp_path, transform=SCALED)


def test_folders_of_torchvision(folder):
    samples = Samples.of(folder, size=8)
    assert samples.classes == ("cat", "dog")
    assert [(s.identifier, s.target) for s in samples] == [("cat/1.png", 0), ("cat/2.png", 0), ("dog/1.png", 1)]
    assert Samples.of(Subset(folder, [2])).identifier(0) == "dog/1.png"  # as in the whole, so that a run can go on
    renumbered = Samples.of(folder, classes=["ant", "dog", "cat"])
    assert (renumbered.classes, [s.target for s in renumbered]) == (("ant", "dog", "cat"), [2, 2, 1])
    with pytest.raises(ValueError, match="has the unknown class 'cat'"):
        Samples.of(folder, classes=["ant", "dog"])
    folder.target_transform = lambda label: label - 1
    assert [s.target for s in Samples.of(folder, classes=["ant", "dog", "cat"])] == [-1, -1, 2]


def test_columns_of_hugging_face():
    datasets = pytest.importorskip("datasets")
    kinds = {"image": datasets.Image(), "kind": datasets.ClassLabel(names=["cat", "dog"]), "id": datasets.Value("string")}
    rows = {"image": [picture(0), picture(1)], "kind": [1, 0], "id": ["a", "b"]}
    dataset = datasets.Dataset.from_dict(rows, features=datasets.Features(kinds))
    for each in (dataset, dataset.with_format("torch"), dataset.with_format("numpy")):
        samples = Samples.of(each)
        assert [(s.identifier, s.target) for s in samples] == [("a", 1), ("b", 0)]
        assert torch.equal(samples[1].image, pixels(picture(1)))
        assert samples.classes == ("cat", "dog")
    changed = dataset.with_transform(
        lambda rows: {"pixel_values": [SCALED(i) for i in rows["image"]], "label": rows["kind"]}
    )
    assert (Samples.of(changed)[0].target, Samples.of(changed).classes) == (1, ("cat", "dog"))
    with pytest.raises(TypeError, match="a dict with the keys test: pass one of its parts"):
        Samples.of(datasets.DatasetDict({"test": dataset}))


def test_several_classes_of_hugging_face():
    datasets = pytest.importorskip("datasets")
    several = datasets.Sequence(datasets.ClassLabel(names=["cat", "dog"]))
    dataset = datasets.Dataset.from_dict(
        {"image": [picture(0), picture(1)], "label": [[0, 1], [0, 1]]},
        features=datasets.Features({"image": datasets.Image(), "label": several}),
    )
    assert [s.labels for s in Samples.of(dataset, multilabel=True)] == 4 * [(0, 1)]  # not vectors of 0 and 1


def test_dicts_of_monai():
    data = pytest.importorskip("monai.data")
    transforms = pytest.importorskip("monai.transforms")
    rows = [{"image": np.random.rand(6, 7, 8), "label": np.eye(8)[:7][None].repeat(6, 0), "class": k} for k in range(2)]
    change = transforms.Compose([transforms.EnsureChannelFirstd(["image", "label"], channel_dim="no_channel")])
    with pytest.warns(UserWarning, match="'label' holds masks by their shape, and not classes; pass mask='label'"):
        samples = Samples.of(data.Dataset(rows, change))
    assert (samples[1].image.shape, samples[1].mask.shape, samples[1].target) == ((1, 6, 7, 8), (1, 6, 7, 8), 1)
    assert type(samples[1].image) is torch.Tensor


def test_a_comparison_takes_them():
    images, masks = torch.rand(4, 3, 16, 24), torch.zeros(4, 16, 24)
    masks[1:, 3:9, 5:20] = 1
    dataset = TensorDataset(images, torch.arange(4), masks)
    own = [
        Sample(i, t, m[None] if m.any() else None, f"{t:06d}") for t, (i, m) in enumerate(zip(images, masks, strict=True))
    ]
    samples = pickle.loads(pickle.dumps(Samples.of(dataset)))  # as workers get them
    methods, metrics = ["soft_cam", "grad_cam"], ["pointing_game", "deletion"]
    found, expected = (compare_methods(make_model(), each, methods, metrics) for each in (samples, own))
    assert sorted_scores(found).equals(sorted_scores(expected))
    assert explain_sample(make_model(), samples[1], methods).maps.keys() == set(methods)


def test_a_sample_without_a_class_is_explained_by_the_prediction():
    (sample,), model = Samples.of([torch.rand(3, 16, 24)]), make_model()
    with pytest.raises(ValueError, match="explain='predicted'"):
        explain_sample(model, sample, ["grad_cam"])
    example = explain_sample(model, sample, ["grad_cam"], explain="predicted")
    assert example.target == model(sample.image[None]).argmax()
    expected = explain_sample(model, replace(sample, target=example.target), ["grad_cam"])
    assert torch.equal(example.maps["grad_cam"], expected.maps["grad_cam"])
    with pytest.raises(ValueError, match="explain is 'predictd'"):
        explain_sample(model, sample, explain="predictd")


def test_classifiers_are_measured_on_them():
    classifier = Classifier("net", PooledNet().eval(), CLASSES, 16, (0, 0, 0), (1, 1, 1), scores="sigmoid")
    images = torch.rand(3, 3, 16, 16)
    assert accuracy(classifier, Samples.of(TensorDataset(images, torch.arange(3))))[0] in (0, 1 / 3, 2 / 3, 1)
    with pytest.warns(UserWarning, match="make no sample"):
        samples = Samples.of(TensorDataset(images, torch.tensor(LABELS)), multilabel=True)
    assert class_performance(classifier, samples)["shown"][:4].tolist() == [1, 1, 2, 0]
    sizes = [(torch.rand(3, side, side), [1, 0, 0, 0]) for side in (16, 16, 8)]
    for measure, several in ((accuracy, False), (class_performance, True)):
        with pytest.warns(UserWarning, match=r"1 of 3 samples could not be read: 000002.* \(8, 8\) pixels, the first"):
            measure(classifier, Samples.of(sizes, multilabel=several))
        with pytest.raises(ValueError, match=r"2 of 3 samples do not fit the first one"):
            measure(classifier, Samples.of(sizes[::-1], multilabel=several))
    for measure in (accuracy, class_performance):
        with pytest.raises(TypeError, match=r"the classifier is a PooledNet; pass captum_softcam.softcam.Classifier\("):
            measure(classifier.model, samples)


@pytest.mark.parametrize("dataset", [FakeData(2, (3, 8, 8), 2), DataLoader(FakeData(2)), Stream(), {"test": []}])
def test_what_is_not_adapted_is_told_the_way(dataset):
    classifier = Classifier("net", PooledNet().eval(), CLASSES, 16, (0, 0, 0), (1, 1, 1), scores="sigmoid")
    for measure in (accuracy, class_performance):
        with pytest.raises(TypeError, match=r"Samples\.of\("):
            measure(classifier, dataset)
    with pytest.raises(TypeError, match=r"Samples\.of\("):
        compare_methods(make_model(), dataset, ["soft_cam"], ["deletion"])
    with pytest.raises(TypeError, match=r"the model is a Classifier; expected a torch.nn.Module"):
        compare_methods(classifier, [], ["soft_cam"], ["deletion"])
