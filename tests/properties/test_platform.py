"""The state machines, with the vendor's SDK as the driver; profile `ci` makes 300 runs of them."""

import pytest

from tests.properties.machines.hotload import HotLoadMachine
from tests.properties.machines.platform import PlatformMachine
from tests.properties.profiles import batches, run_machine


@pytest.mark.parametrize("batch", batches(dev=1, ci=15))
def test_the_platform_is_its_model(batch: int) -> None:
    run_machine(PlatformMachine, batch)


@pytest.mark.parametrize("batch", batches(dev=1, ci=15))
def test_replicas_hold_what_the_model_says(batch: int) -> None:
    run_machine(HotLoadMachine, batch)
