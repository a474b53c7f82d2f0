"""The control plane, `/v1/...`: parse, one service call, serialise."""

from emulator.http.control import (
    accounts,
    checkpoints,
    deployed_models,
    deployments,
    jobs,
    ledger,
    managed,
    models,
    operations,
    quotas,
    sessions,
    shapes,
)

routers = tuple(
    part.router
    for part in (
        jobs,
        sessions,
        deployments,
        deployed_models,
        ledger,
        checkpoints,
        models,
        operations,
        quotas,
        shapes,
        managed,
        accounts,
    )
)
