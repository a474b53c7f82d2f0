"""A stand-in for the emulator's process: answers GET /healthz and keeps the attendance of its state folder.

`python fake_server.py STATE_DIR GRACE`; a file STATE_DIR/broken makes it fail at start.
"""

import os
import sys
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread

from emulator.state.folder import locked
from emulator.state.server_record import ServerRecord, announce
from ftsim.process.attendance import Attendance
from ftsim.process.stop import Stop


class Handler(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        self.send_response(200)
        self.send_header("Content-Length", "2")
        self.end_headers()
        self.wfile.write(b"{}")

    def log_message(self, format: str, *args: object) -> None:
        pass


def main(state_dir: Path, grace: float) -> None:
    if (state_dir / "broken").exists():
        sys.exit("the state folder is broken")
    attendance = Attendance(state_dir)
    with locked(state_dir, 10.0), ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        Thread(target=server.serve_forever, daemon=True).start()
        with (state_dir / "starts").open("a") as starts:
            starts.write(f"{os.getpid()}\n")
        announce(state_dir, ServerRecord(f"http://127.0.0.1:{server.server_port}", os.getpid(), "fw_test", "local"))
        attendance.serve_until_deserted(os.getpid(), Stop(), grace=grace, poll=0.05)
        server.shutdown()


if __name__ == "__main__":
    main(Path(sys.argv[1]), float(sys.argv[2]))
