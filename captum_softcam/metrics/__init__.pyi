from . import functional as functional
from ._quantus.columns import quantus_column as quantus_column
from ._quantus.metric import *
from .batch import *
from .classes import *
from .metric import *
from .mosaics import MosaicPool as MosaicPool
from .mosaics import Mosaics as Mosaics
from .patches import PATCHES as PATCHES
from .patches import PatchGame as PatchGame
from .patches import patches_of as patches_of
from .randomised import RandomisedModels as RandomisedModels
from .registry import METRICS as METRICS
from .registry import find_metric as find_metric
from .verdicts import *
