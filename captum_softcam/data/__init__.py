"""Samples with masks: the embedded retinal lesions and the user's own data; and labelled images to train on."""

from captum_softcam.data.augmentation import make_transforms
from captum_softcam.data.box_table import BoxTableSamples
from captum_softcam.data.coco import CocoSamples
from captum_softcam.data.imagenet import ImageNetSamples
from captum_softcam.data.images import read_image
from captum_softcam.data.labelled import LabelledImages, balanced_class_weights, split_samples
from captum_softcam.data.lesions import RetinalLesions
from captum_softcam.data.masked_images import ImageEntry, MaskedImages
from captum_softcam.data.pets import OxfordPetSamples
from captum_softcam.data.readers import ImageFolderSamples
from captum_softcam.data.samples import Sample, Samples
from captum_softcam.data.voc import VOCSamples

__all__ = [
    "BoxTableSamples",
    "CocoSamples",
    "ImageEntry",
    "ImageFolderSamples",
    "ImageNetSamples",
    "LabelledImages",
    "MaskedImages",
    "OxfordPetSamples",
    "RetinalLesions",
    "Sample",
    "Samples",
    "VOCSamples",
    "balanced_class_weights",
    "make_transforms",
    "read_image",
    "split_samples",
]
