"""MLflow's tracking server, and a client that opens a connection per request: over one that is kept
open, the same server is up to 40 ms slower (delayed acknowledgements).

Speaks lines of JSON: "write N" logs N points in batches of 1,000, "read" reads the whole curve,
"sample N" reads it as MLflow's own page does.
"""

import http.client
import json
import math
import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.parse

BATCH = 1_000
PAGE = 25_000
METRIC = "bench.curve"


def free_port():
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return listener.getsockname()[1]


class Server:
    def __init__(self, directory):
        self.port = free_port()
        environment = dict(os.environ, MLFLOW_DISABLE_TELEMETRY="true", DO_NOT_TRACK="true")
        command = [
            sys.executable, "-m", "mlflow", "server", "--host", "127.0.0.1", "--port", str(self.port),
            "--workers", "2", "--backend-store-uri", f"sqlite:///{directory}/mlflow.db",
            "--artifacts-destination", directory,
        ]
        self.process = subprocess.Popen(
            command, env=environment, stdout=sys.stderr, stderr=sys.stderr, start_new_session=True)
        end = time.monotonic() + 120
        while True:
            try:
                if self.request("GET", "/health", raw=True) == b"OK":
                    return
            except OSError:
                pass
            if time.monotonic() > end or self.process.poll() is not None:
                raise SystemExit("MLflow's server doesn't start")
            time.sleep(0.2)

    def request(self, method, path, body=None, raw=False):
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=120)
        payload = None if body is None else json.dumps(body)
        connection.request(method, path, payload, {"Content-Type": "application/json"})
        answer = connection.getresponse()
        told = answer.read()
        connection.close()
        if answer.status != 200:
            raise SystemExit(f"{path}: {answer.status} {told[:300]}")
        return told if raw else json.loads(told)

    def stop(self):
        os.killpg(self.process.pid, signal.SIGTERM)
        try:
            self.process.wait(10)
        except subprocess.TimeoutExpired:
            os.killpg(self.process.pid, signal.SIGKILL)


def value(step):
    return math.sin(step / 1_000.0)


def write(server, run, first, count):
    batches = []
    for start in range(first, first + count, BATCH):
        steps = range(start, min(start + BATCH, first + count))
        metrics = [{"key": METRIC, "value": value(step), "timestamp": step, "step": step} for step in steps]
        batches.append({"run_id": run, "metrics": metrics})
    began = time.perf_counter()
    for batch in batches:
        server.request("POST", "/api/2.0/mlflow/runs/log-batch", batch)
    return {"seconds": time.perf_counter() - began}


def read(server, run):
    began = time.perf_counter()
    points, token = [], None
    while True:
        query = {"run_id": run, "metric_key": METRIC, "max_results": PAGE}
        if token:
            query["page_token"] = token
        page = server.request("GET", "/api/2.0/mlflow/metrics/get-history?" + urllib.parse.urlencode(query))
        points.extend(page.get("metrics", []))
        token = page.get("next_page_token")
        if not token:
            break
    seconds = time.perf_counter() - began
    return {"seconds": seconds, "points": len(points), "sum": sum(p["value"] for p in points)}


def sample(server, run, most):
    query = urllib.parse.urlencode({"run_ids": run, "metric_key": METRIC, "max_results": most})
    began = time.perf_counter()
    page = server.request("GET", "/ajax-api/2.0/mlflow/metrics/get-history-bulk-interval?" + query)
    return {"seconds": time.perf_counter() - began, "points": len(page.get("metrics", []))}


def main():
    with tempfile.TemporaryDirectory() as directory:
        server = Server(directory)
        try:
            made = server.request(
                "POST", "/api/2.0/mlflow/runs/create", {"experiment_id": "0", "start_time": 0})
            run, written = made["run"]["info"]["run_id"], 0
            print(json.dumps({"ready": True}), flush=True)
            for line in sys.stdin:
                verb, *numbers = line.split()
                if verb == "write":
                    told = write(server, run, written, int(numbers[0]))
                    written += int(numbers[0])
                elif verb == "read":
                    told = read(server, run)
                else:
                    told = sample(server, run, int(numbers[0]))
                print(json.dumps(told), flush=True)
        finally:
            server.stop()


main()
