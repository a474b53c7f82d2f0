"""The control plane, `/v1/...`: parse, one service call, serialise."""

from emulator.http.control import (
    accounts,
    checkpoints,
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
