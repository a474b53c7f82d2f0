"""The names of `training.checkpoints.manager`, where programs written for the service import them."""

from ftsim.training.checkpoints.manager import (
    LIST_WAIT_S as LIST_WAIT_S,
    NAME_LIMIT as NAME_LIMIT,
    TrainingCheckpoints as TrainingCheckpoints,
    logger as logger,
)
