"""The policy as it samples on the serverless pool: each snapshot is sampled under its own name, and none is loaded."""

import contextlib
from collections.abc import Iterator
from typing import Any

from fireworks.training.sdk import FixedConcurrencyController

from ftsim.training.clients import TrainingClient
from ftsim.training.config import SamplingConfig
from ftsim.training.sampling.policy import Policy


class PoolPolicy(Policy):
    """Samples the base model until the first `sync`, and after each the snapshot that it saved."""

    def __init__(self, service: Any, trainer: TrainingClient, config: SamplingConfig, longest_prompt: int) -> None:
        self.longest_prompt = longest_prompt
        self._service, self._trainer = service, trainer
        self._limits = FixedConcurrencyController(config.rollout_concurrency)
        self.client = service.create_sampling_client(base_model=config.base_model, concurrency_controller=self._limits)

    def sync(self, name: str) -> None:
        """Save the trainer's weights under `name`, and sample from them."""
        saved: Any = self._trainer.save_weights_for_sampler_ext(name, checkpoint_type="base")
        self.close()
        self.client = self._service.create_sampling_client(model_path=saved.path, concurrency_controller=self._limits)

    def close(self) -> None:
        self.client.close()  # type: ignore[attr-defined]


@contextlib.contextmanager
def pool_policy(
    service: Any,
    trainer: TrainingClient,
    config: SamplingConfig,
    *,
    longest_prompt: int,
    snapshot: str,
    moved: bool,
) -> Iterator[Policy]:
    """Yields the policy of a training client on the pool; `moved` and `snapshot` as for `rollout_policy`."""
    with contextlib.closing(PoolPolicy(service, trainer, config, longest_prompt)) as policy:
        if moved or config.weight_sync.weight_sync_before_training:
            policy.sync(snapshot)
        yield policy
