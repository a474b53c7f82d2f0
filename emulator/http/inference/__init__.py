"""The inference gateway and hot loading: parse, one service call, serialise."""

from emulator.http.inference import chat, completions, hot_load, served

routers = (completions.router, chat.router, served.router, hot_load.router)
