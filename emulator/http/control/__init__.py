"""The control plane, `/v1/...`: parse, one service call, serialise."""

from emulator.http.control import (
    accounts,
    checkpoints,
    deployed_models,
    deployments,
    jobs,
    ledger,
    managed,
    model_uploads,
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
        model_uploads,
        models,
        operations,
        quotas,
        shapes,
        managed,
        accounts,
    )
)
