"""Self-explaining CNNs (SoftCAM) and class activation maps (Recipro-CAM) for users of Captum and Quantus."""

import lazy_loader

# The names and their modules are listed in __init__.pyi; a module is imported when one of its names is first used.
__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)

__version__ = "0.1.0"
