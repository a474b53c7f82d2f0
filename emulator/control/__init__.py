"""Routes of the control plane: `routers` is what `emulator.app` includes."""

from fastapi import APIRouter

routers: tuple[APIRouter, ...] = ()
