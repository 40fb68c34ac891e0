"""The user's own folders: what is read, in which order, and the sentence for everything that is wrong with them."""

import re

import numpy as np
import pytest
import torch
from PIL import Image
from torchvision.datasets.folder import IMG_EXTENSIONS

from captum_softcam._imagenet import imagenet_names, wordnet_ids
from captum_softcam.data import Fit, ImageFolderSamples, Sample, UnlabelledImages, read_image
from captum_softcam.data.files import ENDINGS

WIDTH, HEIGHT = 40, 32


def draw(path, pixels=None):
    """Save an image; without ``pixels`` one whose colour is made of its name, so that no two are alike."""
    if pixels is None:
        shade = sum(path.as_posix().encode()) % 200
        pixels = np.full((HEIGHT, WIDTH, 3), (shade, 255 - shade, shade // 2), np.uint8)
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(path)
    return path


def spot(row=8, column=12, height=HEIGHT, width=WIDTH, value=255):
    """A mask of one pixel."""
    mask = np.zeros((height, width), np.uint8)
    mask[row, column] = value
    return mask


@pytest.fixture
def images(tmp_path):
    """Two cats, three dogs, no mask; the folders are made in the wrong order."""
    for name in ("dog/c.png", "dog/a.png", "dog/b.jpg", "cat/z.png", "cat/y.png"):
        draw(tmp_path / "images" / name)
    return tmp_path / "images"


@pytest.fixture
def masks(tmp_path):
    """Masks of one cat and one dog."""
    for name in ("cat/y.png", "dog/b.png"):
        draw(tmp_path / "masks" / name, spot())
    return tmp_path / "masks"


def message(error, call):
    """The whole text of the error that ``call`` raises."""
    with pytest.raises(error) as caught:
        call()
    return str(caught.value)


class TestReading:
    def test_layout(self, images, masks):
        sample = ImageFolderSamples(images, masks, size=24)[0]
        assert isinstance(sample, Sample)
        assert (sample.image.shape, sample.image.dtype) == ((3, 24, 24), torch.float32)
        assert (sample.mask.shape, sample.mask.dtype) == ((1, 24, 24), torch.bool)
        assert (sample.target, sample.identifier) == (0, "cat/y.png")
        assert sample.image.min() >= 0
        assert sample.image.max() <= 1

    def test_pixels_are_those_of_the_file(self, tmp_path):
        pixels = np.random.default_rng(0).integers(0, 256, (HEIGHT, WIDTH, 3), dtype=np.uint8)
        image = read_image(draw(tmp_path / "a.png", pixels))
        assert torch.equal(image, torch.from_numpy(pixels).permute(2, 0, 1) / 255)

    def test_the_image_is_resized_as_a_whole(self, tmp_path):
        pixels = np.zeros((HEIGHT, WIDTH, 3), np.uint8)
        pixels[:, WIDTH // 2 :, 0] = 255
        image = read_image(draw(tmp_path / "a.png", pixels), 20)
        assert image.shape == (3, 20, 20)
        assert torch.all(image[0, :, :8] < 0.01)
        assert torch.all(image[0, :, 12:] > 0.99)

    @pytest.mark.parametrize("mode", ["L", "P", "RGBA", "1", "CMYK"])
    def test_every_8_bit_mode_becomes_rgb(self, tmp_path, mode):
        path = tmp_path / ("a.jpg" if mode == "CMYK" else "a.png")
        Image.new("RGB", (WIDTH, HEIGHT), "white").convert(mode).save(path)
        assert torch.all(read_image(path) > 0.95)
        assert read_image(path).shape == (3, HEIGHT, WIDTH)

    def test_16_bits_are_not_cut_off_at_255(self, tmp_path):
        path = draw(tmp_path / "a.png", np.linspace(0, 4095, HEIGHT * WIDTH).reshape(HEIGHT, WIDTH).astype(np.uint16))
        text = message(ValueError, lambda: read_image(path))
        assert str(path) in text
        assert "8 bits" in text

    def test_folders_below_a_class_folder_and_other_files(self, images):
        draw(images / "cat/sub/x.PNG")
        (images / "cat/notes.txt").write_text("none of our business")
        (images / "notes.txt").write_text("nor this")
        names = [sample.identifier for sample in ImageFolderSamples(images, size=8)]
        assert sorted(names) == ["cat/sub/x.PNG", "cat/y.png", "cat/z.png", "dog/a.png", "dog/b.jpg", "dog/c.png"]

    def test_the_endings_are_those_of_torchvision_and_more(self):
        assert set(IMG_EXTENSIONS) < set(ENDINGS)

    def test_hidden_folders_are_no_classes(self, images):
        (images / ".ipynb_checkpoints").mkdir()
        assert ImageFolderSamples(images).classes == ("cat", "dog")


class TestOrder:
    def test_class_by_class_in_turn(self, images):
        data = ImageFolderSamples(images, size=8)
        assert len(data) == 5
        want = [("cat/y.png", 0), ("dog/a.png", 1), ("cat/z.png", 0), ("dog/b.jpg", 1), ("dog/c.png", 1)]
        assert [(sample.identifier, sample.target) for sample in data] == want

    def test_first_few_are_balanced(self, images):
        for i in range(20):
            draw(images / f"ant/{i:02}.png")
        data = ImageFolderSamples(images, size=8)
        assert [data[i].target for i in range(6)] == [0, 1, 2, 0, 1, 2]


class TestClasses:
    def test_default_is_the_folders_sorted(self, images):
        (images / "ant").mkdir()  # a class that happens to have no image keeps its place
        data = ImageFolderSamples(images, size=8)
        assert data.classes == ("ant", "cat", "dog")
        assert data[0].target == 1

    def test_by_name_in_the_order_of_the_logits(self, images):
        data = ImageFolderSamples(images, size=8, classes=["dog", "eel", "cat"])
        assert data.classes == ("dog", "eel", "cat")
        assert {sample.identifier[:3]: sample.target for sample in data} == {"cat": 2, "dog": 0}

    def test_by_number(self, images):
        (images / "cat").rename(images / "2")
        (images / "dog").rename(images / "0")
        data = ImageFolderSamples(images, size=8, classes=["dog", "eel", "cat"])
        assert {sample.identifier[0]: sample.target for sample in data} == {"2": 2, "0": 0}

    def test_a_name_goes_before_a_number(self, images):
        (images / "cat").rename(images / "1")
        data = ImageFolderSamples(images, size=8, classes=["1", "dog"])
        assert {sample.identifier[0]: sample.target for sample in data} == {"1": 0, "d": 1}

    @pytest.mark.parametrize("classes", [imagenet_names(), wordnet_ids()], ids=["names", "WordNet ids"])
    def test_some_of_imagenets_classes(self, images, classes):
        (images / "cat").rename(images / "n01440764")
        (images / "dog").rename(images / "sea snake")
        data = ImageFolderSamples(images, size=8, classes=classes)
        assert {sample.identifier[0]: sample.target for sample in data} == {"n": 0, "s": 65}

    def test_a_folder_of_two_classes_is_refused(self, images):
        text = message(ValueError, lambda: ImageFolderSamples(images, classes=["cat", "eel", "dog", "cat"]))
        assert text == (
            f"folder '{images}/cat' could be 2 of the model's classes, numbers 0, 3; name all folders by their numbers."
        )
        (images / "cat").rename(images / "3")
        (images / "dog").rename(images / "2")
        assert ImageFolderSamples(images, size=8, classes=["cat", "eel", "dog", "cat"])[0].target == 2


class TestUnlabelled:
    def test_all_images_below_the_folder(self, images):
        draw(images / "e.png")
        data = UnlabelledImages(images, size=8, classes=["cat", "dog"], fit=Fit("pad"))
        assert [sample.identifier for sample in data] == [
            "cat/y.png",
            "cat/z.png",
            "dog/a.png",
            "dog/b.jpg",
            "dog/c.png",
            "e.png",
        ]
        assert {(sample.target, sample.mask) for sample in data} == {(-1, None)}
        assert (data.classes, data.masked, data.fit) == (("cat", "dog"), 0, Fit("pad"))

    def test_masks_have_the_same_names(self, images, masks):
        data = UnlabelledImages(images, masks, 8)
        assert {sample.identifier for sample in data if sample.mask is not None} == {"cat/y.png", "dog/b.jpg"}

    def test_no_images(self, tmp_path):
        text = message(FileNotFoundError, lambda: UnlabelledImages(tmp_path))
        assert text.startswith(f"image folder '{tmp_path}' holds no image (.jpg, ")
        text = message(FileNotFoundError, lambda: UnlabelledImages(tmp_path / "x"))
        assert text == f"image folder '{tmp_path}/x' is not a directory."


class TestMasks:
    def test_no_masks(self, images):
        data = ImageFolderSamples(images, size=8)
        assert data.masked == 0
        assert all(sample.mask is None for sample in data)

    def test_same_relative_name_another_ending(self, images, masks):
        data = ImageFolderSamples(images, masks, size=8)
        found = {sample.identifier for sample in data if sample.mask is not None}
        assert found == {"cat/y.png", "dog/b.jpg"}
        assert data.masked == 2

    def test_same_name_in_another_class_is_another_mask(self, images, masks):
        draw(masks / "cat/a.png", spot())
        data = ImageFolderSamples(images, masks, size=8)
        assert {sample.identifier for sample in data if sample.mask is not None} == {"cat/y.png", "dog/b.jpg"}

    def test_names_with_dots(self, images, masks):
        draw(images / "cat/x.1.png")
        draw(images / "cat/x.2.png")
        draw(masks / "cat/x.2.bmp", spot())
        data = ImageFolderSamples(images, masks, size=8)
        assert {s.identifier: s.mask is not None for s in data if "x." in s.identifier} == {
            "cat/x.1.png": False,
            "cat/x.2.png": True,
        }

    @pytest.mark.parametrize("size", [8, 20, 32, 64])
    def test_small_regions_survive_and_stay_in_place(self, tmp_path, size):
        draw(tmp_path / "images/a/1.png", np.zeros((256, 320, 3), np.uint8))
        draw(tmp_path / "masks/a/1.png", spot(200, 100, 256, 320))
        mask = ImageFolderSamples(tmp_path / "images", tmp_path / "masks", size)[0].mask[0]
        rows, columns = mask.nonzero(as_tuple=True)
        assert 1 <= mask.sum() <= 4, "one pixel lies in one cell, or in those that overlap there"
        assert torch.all((rows - 200.5 / 256 * size + 0.5).abs() <= 1)
        assert torch.all((columns - 100.5 / 320 * size + 0.5).abs() <= 1)


class TestMessages:
    """Word for word: these sentences are all that a user sees."""

    def test_no_such_folder(self, tmp_path):
        text = message(FileNotFoundError, lambda: ImageFolderSamples(tmp_path / "nowhere"))
        assert text == f"image folder '{tmp_path}/nowhere' is not a directory."

    def test_no_class_folders(self, tmp_path):
        draw(tmp_path / "a.png")
        text = message(FileNotFoundError, lambda: ImageFolderSamples(tmp_path))
        assert text == f"image folder '{tmp_path}' has no class folders; expected '{tmp_path}/CLASS/IMAGE'."

    def test_no_images(self, tmp_path):
        (tmp_path / "cat").mkdir()
        (tmp_path / "cat/notes.txt").touch()
        text = message(FileNotFoundError, lambda: ImageFolderSamples(tmp_path))
        assert text.startswith(f"no class folder of '{tmp_path}' holds an image (.jpg, .jpeg, .png, ")
        assert text.endswith(").")

    @pytest.mark.parametrize("name", ["dog", "2", "-1", "²", "1.0"])
    def test_unknown_class_folder(self, images, name):
        (images / "dog").rename(images / name)
        text = message(ValueError, lambda: ImageFolderSamples(images, classes=["cat", "cow"]))
        assert text == (
            f"folder '{images}/{name}' is none of the model's 2 classes; name the folders after the classes or number "
            "them from 0 to 1. Known: 'cat', 'cow'."
        )

    @pytest.mark.parametrize("content", [b"", b"hello", b"\x89PNG\r\n\x1a\n", "half"], ids=["empty", "text", "head", "half"])
    def test_unreadable_image_is_named(self, images, content):
        path = images / "cat/z.png"
        path.write_bytes(path.read_bytes()[:60] if content == "half" else content)
        data = ImageFolderSamples(images, size=8)
        assert data[0].identifier == "cat/y.png"
        text = message(ValueError, lambda: data[2])
        assert re.fullmatch(f"image '{path}' cannot be read \\(.+\\); repair or remove it\\.", text)

    def test_no_such_image(self, tmp_path):
        text = message(FileNotFoundError, lambda: read_image(tmp_path / "a.png"))
        assert text == f"image '{tmp_path}/a.png' is not a file."

    def test_no_such_mask_folder(self, images, tmp_path):
        text = message(FileNotFoundError, lambda: ImageFolderSamples(images, tmp_path / "nowhere"))
        assert text == f"mask folder '{tmp_path}/nowhere' is not a directory."

    def test_no_mask_matches(self, images, tmp_path):
        draw(tmp_path / "masks/y.png", spot())
        text = message(ValueError, lambda: ImageFolderSamples(images, tmp_path / "masks"))
        assert text == (
            f"mask folder '{tmp_path}/masks' has no mask for any image; expected e.g. '{tmp_path}/masks/cat/y.png'."
        )
