"""The names of `training.sampling.environments`, where programs written for the service import them."""

from ftsim.training.sampling.environments import Environment as Environment, Reply as Reply, search as search
