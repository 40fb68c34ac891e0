"""SoftCAM models: convert a classifier, penalise its evidence, train it, ship it."""

import lazy_loader

_load, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)


def __getattr__(name: str) -> object:
    """Load a name, or say which extra has the package that it needs."""
    try:
        return _load(name)
    except ModuleNotFoundError as error:
        missing = str(error.name).partition(".")[0]
        raise ImportError(f"{name} needs {missing}; run: pip install 'captum-softcam[train]'.") from error
