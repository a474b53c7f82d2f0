"""The state machines, with the vendor's SDK as the driver; profile `ci` runs each 150 times and more."""

from ftsim.testing import profiles
from ftsim.testing.hotload import HotLoadMachine
from ftsim.testing.platform import PlatformMachine

TestPlatform = PlatformMachine.TestCase
TestPlatform.settings = profiles.machine_runs()
TestHotLoad = HotLoadMachine.TestCase
TestHotLoad.settings = profiles.machine_runs()
