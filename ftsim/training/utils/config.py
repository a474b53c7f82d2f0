"""The names of `training.config`, where programs written for the service import them."""

from ftsim.training.config import (
    LABEL as LABEL,
    PREFIX_LIMIT as PREFIX_LIMIT,
    InfraConfig as InfraConfig,
    WeightSyncConfig as WeightSyncConfig,
    check_at_least as check_at_least,
    check_choice as check_choice,
    check_common as check_common,
    check_evaluation as check_evaluation,
    check_output_model_id as check_output_model_id,
    check_types as check_types,
    parse_checkpoint_ref as parse_checkpoint_ref,
    phase_of as phase_of,
)
