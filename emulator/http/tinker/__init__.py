"""The service of tinker's own client, `/tinker/api/v1/...`: the pool's trainers, and sampling, under its names."""

from emulator.http.tinker import resources, routes

routers = (routes.router, resources.router)
