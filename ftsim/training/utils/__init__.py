"""The names that programs import from `training.utils`; each is defined in another module of `training`."""

from ftsim.training.config import InfraConfig, WeightSyncConfig
from ftsim.training.config_forms import DeployConfig, TrainerConfig

__all__ = ["DeployConfig", "InfraConfig", "TrainerConfig", "WeightSyncConfig"]
