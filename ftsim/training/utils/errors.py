"""The names of `training.errors`, where programs written for the service import them."""

from ftsim.training.errors import (
    CheckpointError as CheckpointError,
    ConfigError as ConfigError,
    DataError as DataError,
    TrainerError as TrainerError,
)
