"""Samples with masks: the embedded retinal lesions and the user's own folders."""

from captum_softcam.data.lesions import RetinalLesions
from captum_softcam.data.readers import ImageFolderSamples, read_image
from captum_softcam.data.samples import Sample, Samples

__all__ = ["ImageFolderSamples", "RetinalLesions", "Sample", "Samples", "read_image"]
