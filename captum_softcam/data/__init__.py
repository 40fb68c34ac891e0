"""Samples with masks: the embedded retinal lesions and the user's own data; and labelled images to train on."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
