"""The control plane, `/v1/...`: parse, one service call, serialise."""

from emulator.http.control import (
    accounts,
    billing,
    checkpoints,
    deployed_models,
    deployment_reports,
    deployments,
    jobs,
    ledger,
    logs,
    managed,
    model_uploads,
    models,
    operations,
    quotas,
    runs,
    sessions,
    shapes,
)

routers = tuple(
    part.router
    for part in (
        jobs,
        sessions,
        logs,
        runs,
        deployment_reports,
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
        billing,
        accounts,
    )
)
