from .baselines import *
from .coherence import *
from .complexity import *
from .imputation import *
from .localisation import *
from .masks import *
from .mosaics import *
from .perturbation import *
from .randomisation import *
from .segmentation import *
from .subsets import *

BASELINES: tuple[str, ...]
