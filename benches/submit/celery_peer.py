"""Celery beside Stoker's submission: tasks to a quorum queue with publisher confirms, acknowledged
after they ran, their results in the same Redis.

Takes one command a line and answers each with one JSON object; ends with its input.
  submit SECONDS SPEC   all connections publish a task with that argument: {"count": ..., "seconds": ...}
  noop COUNT            one task after another, from submit to its result: {"done_ms": [...], "seen_ms": [...]}
"""

import json
import os
import signal
import subprocess
import sys
import threading
import time
import warnings
from datetime import timezone

from celery import Celery
from kombu import Exchange, Queue

SUBMITTED, NOOP = "celery.submit", "celery.noop"
# What publishes most on two cores, of 1x64, 2x32, 4x16 and 8x8.
PROCESSES, THREADS = 4, 16
WARM_UP = 50
RESULT_TIMEOUT_S = 30


def application(broker, store):
    app = Celery("bench", broker=broker, backend=store)
    direct, quorum = Exchange(""), {"x-queue-type": "quorum"}
    app.conf.update(
        broker_transport_options={"confirm_publish": True},
        broker_pool_limit=THREADS,
        task_queues=[Queue(name, direct, name, queue_arguments=quorum) for name in (SUBMITTED, NOOP)],
        task_default_queue=NOOP,
        task_acks_late=True,
        worker_prefetch_multiplier=1,
        worker_hijack_root_logger=False,
    )

    @app.task(name="noop")
    def noop(spec=None):
        return None

    return app, noop


class Process:
    """This program in another mode; it ends when its input does."""

    def __init__(self, mode, arguments):
        command = [sys.executable, __file__, mode, *arguments]
        pipe = subprocess.PIPE
        self.child = subprocess.Popen(command, stdin=pipe, stdout=pipe, text=True)

    def tell(self, line):
        self.child.stdin.write(line)
        self.child.stdin.flush()

    def answer(self):
        line = self.child.stdout.readline()
        if not line:
            sys.exit("a process of the peer ended")
        return int(line)

    def end(self):
        self.child.stdin.close()
        self.child.wait(timeout=30)


def publish(noop):
    """Publishes over THREADS connections whenever told to."""
    for line in sys.stdin:
        seconds, spec = line.rstrip("\n").split(" ", 1)
        end = time.monotonic() + float(seconds)
        counts, failed = [0] * THREADS, []

        def run(index):
            try:
                while time.monotonic() < end:
                    noop.apply_async((spec,), queue=SUBMITTED, ignore_result=True)
                    counts[index] += 1
            except Exception as error:
                failed.append(error)

        threads = [threading.Thread(target=run, args=(index,)) for index in range(THREADS)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        if failed:
            raise failed[0]
        print(sum(counts), flush=True)


def work(app):
    """A worker of two processes, until the input ends."""

    def watch():
        # Not `sys.stdin`: its lock, held here, would stop the processes that the worker forks.
        while os.read(0, 1):
            pass
        os.kill(os.getpid(), signal.SIGTERM)

    threading.Thread(target=watch, daemon=True).start()
    # It warns those who are root.
    warnings.simplefilter("ignore")
    app.worker_main(["worker", "-Q", NOOP, "-c", "2", "-l", "error", "--without-gossip", "--without-mingle"])


def run_noop(noop, count):
    """Times until the worker called the task done, and until its result was here."""
    done, seen = [], []
    for _ in range(count):
        posted, begun = time.time(), time.monotonic()
        result = noop.apply_async()
        result.get(timeout=RESULT_TIMEOUT_S, interval=0.001)
        seen.append((time.monotonic() - begun) * 1e3)
        done_at = result.date_done.replace(tzinfo=timezone.utc)
        done.append((done_at.timestamp() - posted) * 1e3)
    return {"done_ms": done, "seen_ms": seen}


def main(mode, broker, store):
    app, noop = application(broker, store)
    if mode == "publish":
        return publish(noop)
    if mode == "work":
        return work(app)
    publishers = [Process("publish", (broker, store)) for _ in range(PROCESSES)]
    worker = None
    for line in sys.stdin:
        command, rest = line.rstrip("\n").split(" ", 1)
        if command == "submit":
            begun = time.monotonic()
            for publisher in publishers:
                publisher.tell(rest + "\n")
            count = sum(publisher.answer() for publisher in publishers)
            answer = {"count": count, "seconds": time.monotonic() - begun}
        else:
            if worker is None:
                worker = Process("work", (broker, store))
                run_noop(noop, WARM_UP)
            answer = run_noop(noop, int(rest))
        print(json.dumps(answer), flush=True)
    for process in [*publishers, *([worker] if worker else [])]:
        process.end()


if __name__ == "__main__":
    main(*sys.argv[1:])
