"""What recipes share: configuration, data, trainers, checkpoints, schedules and metrics."""

from ftsim.training.utils.config import InfraConfig, WeightSyncConfig

__all__ = ["InfraConfig", "WeightSyncConfig"]
