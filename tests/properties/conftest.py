from ftsim.testing import profiles

profiles.load()
