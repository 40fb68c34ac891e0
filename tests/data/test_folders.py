"""The user's own folders: what is read, in which order, and the sentence for everything that is wrong with them."""

import re
import unicodedata

import numpy as np
import pytest
import torch
from PIL import Image
from torchvision.datasets.folder import IMG_EXTENSIONS

from captum_softcam._imagenet import imagenet_names, wordnet_ids
from captum_softcam.data import Fit, Found, ImageFolderSamples, LabelledImages, Sample, UnlabelledImages, read_image
from captum_softcam.data._disk.files import ENDINGS

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
        assert text == (f"folder '{images}/cat' could be 2 of the classes, numbers 0, 3; name all folders by their numbers.")
        (images / "cat").rename(images / "3")
        (images / "dog").rename(images / "2")
        assert ImageFolderSamples(images, size=8, classes=["cat", "eel", "dog", "cat"])[0].target == 2

    def test_folders_are_called_in_one_way(self, tmp_path):
        """Classes 1, 2, 3 and folders 0, 1, 2: folder 1 has the name of the first class and the number of the second."""
        for name in "012":
            draw(tmp_path / name / "1.png")
        data = ImageFolderSamples(tmp_path, size=8, classes=["1", "2", "3"])
        assert {sample.identifier[0]: sample.target for sample in data} == {"0": 0, "1": 1, "2": 2}
        (tmp_path / "1").rename(tmp_path / "03")
        text = message(ValueError, lambda: ImageFolderSamples(tmp_path, classes=["1", "2", "3", "4"]))
        assert text == (
            f"folder '{tmp_path}/2' could be the class '2' by its name or '3' by its number, as the other folders; name all "
            "after the classes."
        )

    def test_names_and_numbers_are_not_mixed(self, images):
        (images / "dog").rename(images / "1")
        text = message(ValueError, lambda: ImageFolderSamples(images, classes=["cat", "dog"]))
        assert text == (
            f"folder '{images}/1' is named by a number, but 'cat' by a name; name all folders after the classes, or number "
            "all of them."
        )

    @pytest.mark.parametrize("classes", [["cat", "dog", "eel"], ["a", "b", "c"]], ids=["names", "numbers"])
    def test_two_folders_are_not_one_class(self, images, classes):
        first, second = ("Cat", "cat") if "cat" in classes else ("1", "01")
        (images / "cat").rename(images / first)
        (images / "dog").rename(images / second)
        for read in (ImageFolderSamples, LabelledImages.from_folders):
            text = message(ValueError, lambda read=read: read(images, classes=classes))
            names = ", ".join(map(repr, sorted([first, second])))
            assert (
                text
                == f"the folders {names} of '{images}' are all the class '{classes[int('cat' not in classes)]}'; "
                + ("join or rename them.")
            )

    @pytest.mark.parametrize("name", ["Cat", "CAT"])
    def test_case_does_not_count_if_it_makes_no_difference(self, images, name):
        (images / "cat").rename(images / name)
        assert ImageFolderSamples(images, size=8, classes=["dog", "cat"])[1].target == 1
        assert LabelledImages.from_folders(images, ["dog", "cat"]).counts() == {"dog": 3, "cat": 2}
        text = message(ValueError, lambda: ImageFolderSamples(images, classes=["dog", "cat", "cAT"]))
        assert text.startswith(f"folder '{images}/{name}' is none of the 3 classes; ")

    def test_the_form_of_unicode_does_not_count(self, images):
        (images / "cat").rename(images / unicodedata.normalize("NFD", "Bär"))
        data = ImageFolderSamples(images, size=8, classes=["dog", unicodedata.normalize("NFC", "Bär")])
        assert data[1].target == 1

    def test_training_and_comparison_know_the_same_names(self, images):
        (images / "cat").rename(images / "2")
        (images / "dog").rename(images / "0")
        assert LabelledImages.from_folders(images, ["dog", "eel", "cat"]).counts() == {"dog": 3, "eel": 0, "cat": 2}
        (images / "0").rename(images / "n01440764")
        (images / "2").rename(images / "sea snake")
        data = LabelledImages.from_folders(images, imagenet_names())
        assert {name: count for name, count in data.counts().items() if count} == {"tench": 3, "sea snake": 2}

    def test_a_folder_without_images_need_not_be_a_class(self, images):
        (images / "logs").mkdir()
        assert ImageFolderSamples(images, classes=["dog", "cat"]).classes == ("dog", "cat")


class TestLayouts:
    """Folders that are no classes."""

    @pytest.mark.parametrize("names", [("test", "train"), ("Training", "Validation"), ("train",)])
    def test_splits_are_refused(self, tmp_path, names):
        for name in names:
            draw(tmp_path / name / "cat/1.png")
        for read in (ImageFolderSamples, LabelledImages.from_folders):
            assert message(ValueError, lambda read=read: read(tmp_path)) == (
                f"image folder '{tmp_path}' holds the splits {', '.join(map(repr, names))}, not class folders; pass one of "
                f"them: '{tmp_path}/{names[0]}'."
            )
        assert ImageFolderSamples(tmp_path / names[0]).classes == ("cat",)
        assert ImageFolderSamples(tmp_path, classes=["bus", *names]).classes == ("bus", *names)

    def test_class_folders_that_may_be_splits(self, tmp_path):
        for name in ("train", "test", "bus"):
            draw(tmp_path / name / "1.png")
        with pytest.warns(
            UserWarning, match=f"class folders 'test', 'train' of '{tmp_path}' are named like splits; if they"
        ):
            assert len(ImageFolderSamples(tmp_path).classes) == 3

    def test_one_folder_too_high(self, images):
        with pytest.warns(UserWarning, match=f"one class folder, 'images', with the folders 'cat', 'dog'; .* '{images}'"):
            ImageFolderSamples(images.parent)

    def test_images_and_masks_are_refused(self, tmp_path):
        for kind in ("images", "masks"):
            draw(tmp_path / kind / "1.png")
        for arguments in ([tmp_path], [tmp_path, tmp_path / "masks"]):
            assert message(ValueError, lambda arguments=arguments: ImageFolderSamples(*arguments)) == (
                f"image folder '{tmp_path}' holds the folders 'images', 'masks', not class folders; pass "
                f"'{tmp_path}/images' as images and '{tmp_path}/masks' as masks."
            )
        assert UnlabelledImages(tmp_path).masked == UnlabelledImages(tmp_path / "images", tmp_path / "masks").masked == 1

    def test_images_beside_the_class_folders_have_no_class(self, images):
        draw(images / "e.png")
        for data in (ImageFolderSamples(images), LabelledImages.from_folders(images)):
            assert (len(data), data.found.files, data.found.left_out) == (5, 6, {"no class": ["e.png"]})


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

    def test_two_candidates_are_refused(self, images, masks):
        draw(masks / "cat/y.tif", spot())
        text = message(ValueError, lambda: ImageFolderSamples(images, masks))
        assert text.startswith(f"image '{images}/cat/y.png' could have the masks cat/y.png, cat/y.tif; keep one of them (or")

    @pytest.mark.parametrize("passed", [False, True])
    def test_masks_beside_the_images(self, images, passed):
        draw(images / "cat/y_mask.png", spot())
        draw(images / "cat/y_mask_1.png", spot(row=20))
        draw(images / "cat/gone_mask.png", spot())
        data = ImageFolderSamples(images, images if passed else None, WIDTH)
        assert (len(data), data.masked) == (5, 1)
        assert data[0].mask.sum() >= 2
        assert data.found == Found(5, 3, {"mask without image": ["cat/gone_mask.png"]})

    def test_masks_in_their_folder_go_before_those_beside_the_images(self, images, masks):
        draw(images / "cat/z_mask.png", spot())
        (masks / "dog/b.png").rename(masks / "cat/z_mask.png")
        data = ImageFolderSamples(images, masks)
        assert data.masked == 2
        assert data.found == Found(5, 3, {"mask beside its image, not in the folder of masks": ["cat/z_mask.png"]})

    def test_a_folder_of_masks_below_that_of_the_images(self, images, masks):
        masks.rename(images / "regions")
        data = ImageFolderSamples(images, images / "regions")
        assert (data.classes, data.masked, data.found) == (("cat", "dog"), 2, Found(5, 2))

    def test_images_that_are_called_like_masks(self, tmp_path):
        """As the roads of DeepGlobe; where all are called so, it is what they show."""
        draw(tmp_path / "a/1_sat.jpg")
        draw(tmp_path / "with_mask/with_mask_1.jpg")
        ImageFolderSamples(tmp_path)
        draw(tmp_path / "a/1_mask.png")
        with pytest.warns(UserWarning, match=f"^images of '{tmp_path}' are named like masks, .*: a/1_mask.png; if they"):
            assert len(ImageFolderSamples(tmp_path)) == 3

    def test_a_link_to_the_folder_of_masks(self, images, masks):
        (images / "regions").symlink_to(masks)
        assert ImageFolderSamples(images, images / "regions").classes == ("cat", "dog")

    def test_a_mask_beside_its_image_is_not_trained_on(self, images):
        draw(images / "cat/y_mask.png", spot())
        data = LabelledImages.from_folders(images)
        assert (data.counts(), data.found) == ({"cat": 2, "dog": 3}, Found(5, 1))

    def test_everything_is_used_or_listed(self, images, masks):
        draw(masks / "cat/gone.png", spot())
        (masks / "notes.txt").touch()
        (images / "cat/scan.heic").touch()
        assert ImageFolderSamples(images, masks).found == Found(
            6, 3, {"not an image format": ["cat/scan.heic", "notes.txt"], "mask without image": ["cat/gone.png"]}
        )

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
            f"folder '{images}/{name}' is none of the 2 classes; name the folders after the classes or number "
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
            f"mask folder '{tmp_path}/masks' has no mask for any image; expected e.g. '{tmp_path}/masks/cat/y.png', "
            "found 'y.png'."
        )
        text = message(ValueError, lambda: ImageFolderSamples(images, images))
        assert text == f"mask folder '{images}' has no mask for any image; expected e.g. '{images}/cat/y_mask.png'."
