"""The bare side of `control_plane_get`: FastAPI with one empty route under uvicorn, on a free port that it prints."""

import json
import socket

import uvicorn
from fastapi import FastAPI

app = FastAPI(docs_url=None, redoc_url=None, openapi_url=None)


@app.get("/empty")
async def empty() -> dict[str, str]:
    return {}


def main() -> None:
    sock = socket.socket(socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP)  # asyncio looks at the protocol number
    sock.bind(("127.0.0.1", 0))
    sock.listen(1024)
    print(json.dumps({"port": sock.getsockname()[1]}), flush=True)
    config = uvicorn.Config(app, log_config=None, access_log=False, lifespan="off", server_header=False, ws="none")
    uvicorn.Server(config).run([sock])


if __name__ == "__main__":
    main()
