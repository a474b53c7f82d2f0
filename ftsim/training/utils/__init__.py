"""The names that programs import from `training.utils`; each is defined in another module of `training`."""

from ftsim.training.config import InfraConfig, WeightSyncConfig

__all__ = ["InfraConfig", "WeightSyncConfig"]
