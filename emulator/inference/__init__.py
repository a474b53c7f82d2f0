"""Routes of the inference gateway and of hot loading: `routers` is what `emulator.app` includes."""

from fastapi import APIRouter

routers: tuple[APIRouter, ...] = ()
