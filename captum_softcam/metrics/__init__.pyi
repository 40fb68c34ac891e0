from . import functional as functional
from .batch import *
from .classes import *
from .metric import *
from .mosaics import MosaicPool as MosaicPool
from .mosaics import Mosaics as Mosaics
from .patches import PATCHES as PATCHES
from .patches import PatchGame as PatchGame
from .patches import patches_of as patches_of
from .quantus import quantus_column as quantus_column
from .quantus_metric import *
from .randomised import RandomisedModels as RandomisedModels
from .registry import METRICS as METRICS
from .registry import find_metric as find_metric
from .verdicts import *
