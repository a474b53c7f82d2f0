"""The inference gateway and hot loading: parse, one service call, serialise."""

from emulator.http.inference import chat, completions, hot_load

routers = (completions.router, chat.router, hot_load.router)
