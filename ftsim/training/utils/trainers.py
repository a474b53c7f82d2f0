"""The names of `training.trainers`, where programs written for the service import them."""

from ftsim.training.trainers import (
    DEFAULT_SEQ_LEN as DEFAULT_SEQ_LEN,
    GRACE_S as GRACE_S,
    LEAVING as LEAVING,
    POLL_S as POLL_S,
    RESUMABLE as RESUMABLE,
    TOMBSTONES as TOMBSTONES,
    bring_up as bring_up,
    cancel as cancel,
    check_job as check_job,
    check_purpose as check_purpose,
    close_finished as close_finished,
    connect as connect,
    context_length as context_length,
    job_config as job_config,
    job_id_for as job_id_for,
    release as release,
    training_client as training_client,
)
