"""The named errors of the client side; each message says what to do about it."""


class ConfigError(ValueError):
    """A configuration that cannot run; raised before anything is created."""


class DataError(ValueError):
    """A data set that cannot be trained on; the message leads with file and line."""


class TrainerError(RuntimeError):
    """A trainer job that cannot be used."""


class CheckpointError(RuntimeError):
    """A checkpoint that cannot be saved, resumed from or promoted."""
