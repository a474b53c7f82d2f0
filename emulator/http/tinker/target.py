"""The gateway as a client of tinker's own sees it: the pool's trainers, under names that come from its sessions."""

from collections.abc import Mapping, Sequence
from typing import Any

from emulator.core.errors import InvalidArgument
from emulator.http.gateway.serverless import PoolTarget
from emulator.platform.trainers.futures import Promise
from emulator.state.entities import Checkpoint


class NativeTarget(PoolTarget):
    """One account's view of it."""

    def __init__(self, platform: Any, account: str, program: str = "") -> None:
        super().__init__(platform, account, program)
        self.account = account

    def capabilities(self) -> Sequence[Mapping[str, Any]]:
        """Give every base model that LoRA can be trained on, by its name on the hub where it has one."""
        return [
            {
                "model_name": self.platform.models.hub_name(one.name),
                "max_context_length": one.training_context_length or one.context_length,
                "trainable": True,
                "sampleable": True,
            }
            for one in self.platform.models.trainable()
        ]

    def create_model(self, body: Mapping[str, Any], fingerprint: bytes) -> Promise:
        check_optimizer(body.get("optimizer_config"))
        named = {**body, "base_model": self.platform.models.named(str(body.get("base_model", "")))}
        return self.platform.pool.create_model(self.account, named, fingerprint, native=True)

    def weights(self, path: str) -> Checkpoint:
        return self.platform.native_runs.row(self.account, path)

    def refusal(self, verb: str) -> str | None:
        return None


def check_optimizer(config: object) -> None:
    """Raises InvalidArgument for an optimizer that no trainer here has."""
    name = config.get("type") if isinstance(config, Mapping) else None
    if config is not None and name != "adamw":
        raise InvalidArgument(f"the optimizer {str(name)[:40]!r} is not here: trainers step with adamw")
