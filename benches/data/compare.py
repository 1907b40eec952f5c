"""Ours and the peer in turns over each file, three times: medians, and whether both read the same."""

import json
import pathlib
import statistics
import subprocess
import sys

import generate

ROUNDS = 3
# Decoders interpolate colours in their own ways; a sum of numbers may be rounded in another order.
TOLERANCE = {"csv": 1e-6, "parquet": 1e-6, "jpeg": 5e-3}


def run(command):
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    return json.loads(done.stdout.splitlines()[-1])


def check(kind, ours, peer):
    assert ours["rows"] == peer["rows"], (kind, ours["rows"], peer["rows"])
    for column, (a, b) in enumerate(zip(ours["sums"], peer["sums"], strict=True)):
        scale = max(abs(a), abs(b), ours["rows"] * 1e-3)
        assert abs(a - b) <= TOLERANCE[kind] * scale, (kind, column, a, b)


def main():
    examples, mnist, *kinds = sys.argv[1:]
    kinds = kinds or ["csv", "parquet", "jpeg", "disk"]
    binary = f"{examples}/bench-data"
    here = pathlib.Path(__file__).parent
    result, peak = {}, 0
    for kind, path in generate.files(1 << 30).items():
        if kind not in kinds:
            continue
        columns = [] if kind == "jpeg" else generate.COLUMNS
        times = {"ours": [], "peer": []}
        for _ in range(ROUNDS):
            ours = run([binary, kind, path, *columns])
            peer = run([sys.executable, here / "peer.py", kind, path, *columns])
            check(kind, ours, peer)
            times["ours"].append(ours["seconds"])
            times["peer"].append(peer["seconds"])
            peak = max(peak, ours["peak_mb"])
        medians = {side: statistics.median(seconds) for side, seconds in times.items()}
        speed = path.stat().st_size / 1e6 / medians["ours"]
        print(f"{kind:8} ours {medians['ours']:.2f} s ({speed:.0f} MB/s), peer {medians['peer']:.2f} s", times, flush=True)
        result[f"{kind}_ratio"] = round(medians["peer"] / medians["ours"], 2)
    if "disk" in kinds:
        disk = run([f"{examples}/bench-disk", mnist])
        print("disk    ", disk, flush=True)
        result["disk_over_memory"] = disk["disk_over_memory"]
    print(json.dumps({**result, "peak_mb": round(peak)}))


main()
