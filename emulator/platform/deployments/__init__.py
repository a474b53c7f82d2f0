"""Deployments: their states, their replicas, hot-loading, and what they sample."""
