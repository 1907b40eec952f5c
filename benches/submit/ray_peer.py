"""`ray job submit` beside Stoker's submission: its HTTP API, over as many connections. The jobs ask
for something that no node has, so they wait as ours do.

Takes one command a line and answers each with one JSON object; ends with its input.
  submit SECONDS CONNECTIONS   {"count": ..., "seconds": ..., "listed": ...}
Each starts a Ray of its own: an idle one takes half a core to look after the jobs that wait.
"""

import ctypes
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor

from ray.job_submission import JobSubmissionClient

START_S, STOP_S = 90, 20
WARM_UP_S = 1
LOOPBACK = "127.0.0.1"
# Without it Ray listens where other machines can reach it.
ALONE = {"RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0"}
PR_SET_PDEATHSIG = 1
LIBC = ctypes.CDLL(None)


def free_port():
    with socket.socket() as listener:
        listener.bind((LOOPBACK, 0))
        return listener.getsockname()[1]


class Head:
    """A Ray of one node, on loopback, in a process group of its own."""

    def __init__(self):
        self.folder = tempfile.mkdtemp(prefix="ray-")
        dashboard = free_port()
        command = [
            os.path.join(os.path.dirname(sys.executable), "ray"), "start", "--head", "--block",
            f"--node-ip-address={LOOPBACK}", f"--port={free_port()}", f"--dashboard-host={LOOPBACK}",
            f"--dashboard-port={dashboard}", "--include-dashboard=true", "--disable-usage-stats",
            "--num-cpus=2", "--object-store-memory=100000000", f"--temp-dir={self.folder}",
        ]
        with open(os.path.join(self.folder, "head.log"), "w") as log:
            self.child = subprocess.Popen(
                command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True,
                env={**os.environ, **ALONE},
                preexec_fn=lambda: LIBC.prctl(PR_SET_PDEATHSIG, signal.SIGTERM),
            )
        self.address = f"http://{LOOPBACK}:{dashboard}"

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.child.send_signal(signal.SIGTERM)
        try:
            self.child.wait(timeout=STOP_S)
        except subprocess.TimeoutExpired:
            pass
        try:
            os.killpg(self.child.pid, signal.SIGKILL)
        except ProcessLookupError:
            pass
        self.child.wait()
        shutil.rmtree(self.folder, ignore_errors=True)

    def client(self):
        end = time.monotonic() + START_S
        while True:
            try:
                client = JobSubmissionClient(self.address)
                client.list_jobs()
                return client
            except Exception:
                if time.monotonic() > end or self.child.poll() is not None:
                    raise
                time.sleep(0.2)


def submit(client, seconds, connections):
    begun = time.monotonic()
    ids = []

    def submit_some():
        while time.monotonic() < begun + seconds:
            ids.append(client.submit_job(entrypoint="true", entrypoint_resources={"absent": 1}))

    with ThreadPoolExecutor(connections) as threads:
        for done in [threads.submit(submit_some) for _ in range(connections)]:
            done.result()
    taken = time.monotonic() - begun
    listed = {job.submission_id for job in client.list_jobs()}
    return {"count": len(ids), "seconds": taken, "listed": len(listed.intersection(ids))}


def main():
    for line in sys.stdin:
        _, seconds, connections = line.split()
        with Head() as head:
            client = head.client()
            submit(client, WARM_UP_S, int(connections))
            answer = submit(client, float(seconds), int(connections))
        print(json.dumps(answer), flush=True)


if __name__ == "__main__":
    main()
