"""The service of tinker's own client, `/tinker/api/v1/...`: the pool's trainers, and sampling, under its names."""

from emulator.http.tinker import downloads, resources, routes

routers = (routes.router, downloads.router, resources.router)
