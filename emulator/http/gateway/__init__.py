"""The trainer gateway: its verbs, on the trainers of jobs and on those of the pool."""

from emulator.http.gateway import dedicated, serverless

routers = (dedicated.router, serverless.router)
