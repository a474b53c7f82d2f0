"""An installed ftsim brings its pytest plugin along; a checkout on the path has to name it."""

from importlib.metadata import entry_points

if not entry_points(group="pytest11", name="ftsim"):
    pytest_plugins = ["ftsim.testing.plugin"]
