"""The real sampler: what a replica of a deployment computes with."""
