"""Masks and their pictures: pairs by names, without a file."""

import unicodedata
from pathlib import Path

import pytest
from image_files import message

from captum_softcam.data._disk.files import without_ending
from captum_softcam.data._disk.pairs import masks_beside, pair_masks

IMAGES, MASKS = Path("i"), Path("m")


def pairs(pictures, masks):
    """The masks of each picture in a folder of their own."""
    return pair_masks(pictures, {name: without_ending(name) for name in masks}, IMAGES, MASKS)


def beside(*names):
    """The pictures among the files of one folder, and the masks of each."""
    masks = masks_beside(names)
    pictures = [name for name in names if name not in masks]
    return pictures, pair_masks(pictures, masks, IMAGES, IMAGES)


class TestOwnFolder:
    @pytest.mark.parametrize(
        ("picture", "mask"),
        [
            ("a/1.png", "a/1.png"),
            ("a/1.JPG", "a/1.tif"),
            ("a/1.png", "a/1_mask.png"),
            ("a/1.png", "a/1-mask.gif"),
            ("a/1.png", "a/1_mask_0.png"),
            ("a/1.png", "a/1_mask2.png"),
            ("ISIC_0000000.jpg", "ISIC_0000000_segmentation.png"),
            ("ISIC_0000000.jpg", "ISIC_0000000_Segmentation.png"),
            ("testA_1.bmp", "testA_1_anno.bmp"),
            ("ADE_train_1.jpg", "ADE_train_1_seg.png"),
            ("patient001_frame01.png", "patient001_frame01_gt.png"),
            ("with_mask_1.jpg", "with_mask_1.png"),
            ("B4.png", "b4.PNG"),
            ("A/B4.png", "a/b4_MASK.png"),
            (unicodedata.normalize("NFC", "é.png"), unicodedata.normalize("NFD", "é.png")),
            (unicodedata.normalize("NFD", "É.png"), unicodedata.normalize("NFC", "é_mask.png")),
            ("x.1.png", "x.1.bmp"),
            ("a\nb.png", "a\nb_mask.png"),
        ],
    )
    def test_a_pair(self, picture, mask):
        assert pairs([picture], [mask]) == {picture: (mask,)}

    @pytest.mark.parametrize(
        "mask", ["b/1.png", "1.png", "a/1_2.png", "a/1_masked.png", "a/1mask.png", "a/_mask.png", "a/11.png"]
    )
    def test_no_pair(self, mask):
        assert pairs(["a/1.png"], [mask]) == {}

    def test_the_whole_name_goes_before_the_mark(self):
        pictures = ["with.jpg", "with_mask_1.jpg"]
        assert pairs(pictures, ["with_mask_1.png"]) == {"with_mask_1.jpg": ("with_mask_1.png",)}

    def test_the_same_case_goes_before_another(self):
        assert pairs(["a.jpg", "A.jpg"], ["a.png", "A.png"]) == {"a.jpg": ("a.png",), "A.jpg": ("A.png",)}
        assert pairs(["a.jpg"], ["a.png", "A.png"]) == {"a.jpg": ("a.png",)}

    def test_numbers_are_united(self):
        masks = ["1_mask_1.png", "1_mask.png", "1_mask_2.tif"]
        assert pairs(["1.png"], masks) == {"1.png": tuple(sorted(masks))}

    @pytest.mark.parametrize(
        "masks",
        [
            ("1.png", "1.tif"),
            ("1.png", "1_mask.png"),
            ("1_mask.png", "1_seg.png"),
            ("1_mask.png", "1_mask.tif"),
            ("1_mask_1.png", "1_mask_01.png"),
            ("1_mask_1.png", "1_seg_2.png"),
        ],
    )
    def test_two_candidates(self, masks):
        assert message(ValueError, lambda: pairs(["1.png"], masks)) == (
            f"image 'i/1.png' could have the masks {masks[0]}, {masks[1]}; keep one of them (or one folder of masks), or "
            "number them as NAME_mask_1 "
            "and NAME_mask_2 to unite them."
        )

    def test_two_candidates_of_another_case(self):
        text = message(ValueError, lambda: pairs(["Ab.jpg"], ["ab.png", "AB.png"]))
        assert text.startswith("image 'i/Ab.jpg' could have the masks ab.png, AB.png; ")

    def test_two_pictures(self):
        assert message(ValueError, lambda: pairs(["1.jpg", "1.png", "2.png"], ["1.png"])) == (
            "mask 'm/1.png' could be that of 1.jpg, 1.png in 'i'; give the images different names, or keep one of them."
        )
        assert "could be that of ß.jpg, SS.jpg" in message(ValueError, lambda: pairs(["ß.jpg", "SS.jpg"], ["ss.png"]))


class TestBeside:
    def test_as_busi_has_it(self):
        names = ["b/b (1).png", "b/b (1)_mask.png", "b/b (1)_mask_1.png", "b/b (2).png", "b/b (2)_mask.png", "b/b (3).png"]
        assert beside(*names) == (
            ["b/b (1).png", "b/b (2).png", "b/b (3).png"],
            {"b/b (1).png": ("b/b (1)_mask.png", "b/b (1)_mask_1.png"), "b/b (2).png": ("b/b (2)_mask.png",)},
        )

    def test_a_mask_without_its_picture_is_no_picture(self):
        assert beside("b/1.png", "b/1_mask.png", "b/2_mask.png") == (["b/1.png"], {"b/1.png": ("b/1_mask.png",)})

    def test_marks_alone_make_no_mask(self):
        names = ["with_mask/with_mask_1.jpg", "without_mask/without_mask_1.jpg", "cars/ford_gt.jpg"]
        assert beside(*names) == (names, {})

    def test_equal_names_are_two_pictures(self):
        assert beside("1.jpg", "1.png") == (["1.jpg", "1.png"], {})

    @pytest.mark.parametrize("folder", ["images", "Images", "image"])
    @pytest.mark.parametrize("masks", ["masks", "Masks", "lung masks", "infection_masks"])
    def test_folders_of_images_and_masks_in_a_class(self, folder, masks):
        names = [f"COVID/{folder}/1.png", f"COVID/{masks}/1.png", f"COVID/{folder}/2.png", "Normal/1.png"]
        assert beside(*names) == ([names[0], names[2], names[3]], {names[0]: (names[1],)})

    def test_masks_of_other_names_are_no_pictures(self):
        """As the nuclei of the Data Science Bowl 2018."""
        assert beside("0f/images/0f.png", "0f/masks/a1.png", "0f/masks/b2.png") == (["0f/images/0f.png"], {})

    def test_a_folder_of_masks_in_that_of_the_images(self):
        assert beside("c/1.png", "c/masks/1_mask.png") == (["c/1.png"], {"c/1.png": ("c/masks/1_mask.png",)})

    def test_classes_called_mask_are_classes(self):
        for others in ([], ["images/9.png", "masks/7.png"]):
            names = ["mask/1.png", "mask/2.png", "mask/3.png", "no_mask/1.png", "1.png", *others]
            assert beside(*names) == (names, {})

    def test_two_folders_of_masks(self):
        names = ["C/images/1.png", "C/lung masks/1.png", "C/infection masks/1.png"]
        text = message(ValueError, lambda: beside(*names))
        assert "could have the masks C/lung masks/1.png, C/infection masks/1.png" in text
