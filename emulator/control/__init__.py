"""The control plane, `/v1/...`: parse, one service call, serialise."""

from emulator.control import accounts, checkpoints, jobs, models, operations, shapes

routers = tuple(part.router for part in (jobs, checkpoints, models, operations, shapes, accounts))
