"""The inference gateway and hot loading: parse, one service call, serialise."""

from emulator.http.inference import chat, completions, hot_load, messages, served

routers = (completions.router, chat.router, messages.router, served.router, hot_load.router)
