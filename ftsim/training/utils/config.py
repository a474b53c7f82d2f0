"""The names of `training.config` and `training.checks`, where programs written for the service import them."""

from ftsim.training.checks import (
    LABEL as LABEL,
    check_at_least as check_at_least,
    check_choice as check_choice,
    check_common as check_common,
    check_evaluation as check_evaluation,
    check_output_model_id as check_output_model_id,
    check_types as check_types,
    parse_checkpoint_ref as parse_checkpoint_ref,
)
from ftsim.training.config import (
    PREFIX_LIMIT as PREFIX_LIMIT,
    BatchConfig as BatchConfig,
    InfraConfig as InfraConfig,
    RunConfig as RunConfig,
    SamplingConfig as SamplingConfig,
    WeightSyncConfig as WeightSyncConfig,
)
from ftsim.training.config_forms import DeployConfig as DeployConfig, TrainerConfig as TrainerConfig
