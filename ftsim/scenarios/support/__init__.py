"""Shared by all scenarios: the stage they run on, fake time, reports, helpers for jobs, deployments, promotions."""
