"""The names of `training.sdk`, where programs written for the service import them."""

from ftsim.training.sdk import (
    DEFAULT_BASE_URL as DEFAULT_BASE_URL,
    FiretitanServiceClient as FiretitanServiceClient,
    FireworksClient as FireworksClient,
    RequestFailedError as RequestFailedError,
    TrainerJobConfig as TrainerJobConfig,
    TrainerJobManager as TrainerJobManager,
    api_key as api_key,
    base_url as base_url,
    is_refusal as is_refusal,
    types as types,
)
