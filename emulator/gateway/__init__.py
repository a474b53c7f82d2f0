"""The trainer gateway's routes."""

from emulator.gateway.routes import router

routers = (router,)
