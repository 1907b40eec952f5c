"""Records PyTorch's loss trajectories: `record_trajectories.py FOLDER RECORDED`.

They are made in double precision from our weights in single precision: before a normalisation some gradients are next
to nothing, and Adam makes steps of full size of their rounding. How far PyTorch's own single precision is off is
printed.

FOLDER holds a folder per case, as `bench-engine trajectories` writes them. Each case's losses are set beside the
engine's and written to RECORDED; a case that is too far off is an error, and isn't written.
"""

import json
import os
import sys

import torch

from philox import hide, normals
from tasks import read_data, read_task
from torch_training import Plateau, load_model, loss_of, make_optimizer, share_of_rate

TOLERANCE = 5e-5


def train(folder, task, run, kind):
    """The losses of a run's steps, and of its evaluations, with numbers of that kind."""
    spec = task["train"]
    model, x, y = load_model(folder, task).to(kind), *map(torch.from_numpy, read_data(folder, task))
    x, y = (numbers.to(kind) if numbers.is_floating_point() else numbers for numbers in (x, y))
    optimizer, loss_sum = make_optimizer(model, spec), loss_of(task)
    plateau = Plateau(optimizer, spec["schedule"]) if spec["schedule"]["name"] == "plateau" else None
    rate, average = optimizer.param_groups[0]["lr"], None
    if "ema" in spec:
        decay = torch.optim.swa_utils.get_ema_multi_avg_fn(spec["ema"]["decay"])
        average = torch.optim.swa_utils.AveragedModel(model, multi_avg_fn=decay)
    trained = {row for shards in run["batches"] for rows in shards for row in rows}
    held_out = [row for row in range(task["rows"]) if row not in trained]
    losses, tests, due = [], [], {step for step, _ in run["tests"]}
    for step, shards in enumerate(run["batches"]):
        model.train()
        optimizer.zero_grad()
        if not plateau:
            optimizer.param_groups[0]["lr"] = rate * share_of_rate(spec["schedule"], step, spec["steps"])
        sums = []
        for shard, rows in enumerate(shards):
            first = shard * task["shard_rows"]
            places = range(first, first + len(rows))
            sums.append(sum_of_shard(model, task, loss_sum, x[rows], y[rows], places, step))
        loss = sum(total for total, _ in sums) / sum(weight for _, weight in sums)
        loss.backward()
        clip = spec.get("clip", {})
        if "norm" in clip:
            torch.nn.utils.clip_grad_norm_(model.parameters(), clip["norm"])
        if "value" in clip:
            torch.nn.utils.clip_grad_value_(model.parameters(), clip["value"])
        optimizer.step()
        losses.append(loss.item())
        if average:
            average.update_parameters(model)
        if step + 1 in due:
            measured = (average or model).eval()
            with torch.no_grad():
                total, weight = sum_of_shard(measured, task, loss_sum, x[held_out], y[held_out], held_out)
            tests.append((total / weight).item())
            if plateau:
                plateau.evaluated(tests[-1])
    return losses, tests


def sum_of_shard(model, task, loss_sum, x, y, rows, step=None):
    """The sum of a shard's losses, and what they count. In training `rows` are the places in the batch of `step`."""
    seed, spec = task["train"]["seed"], task["model"]
    if spec.get("masked") is not None:
        hidden = hide(x.numpy(), task["target"]["classes"], spec["masked"], seed, rows, step)
        x, y = map(torch.from_numpy, hidden)
    if task["sites"] and step is not None:
        noise = normals(len(x), spec["latent"], rows[0], seed, task["sites"][0], step)
        model.noise = torch.from_numpy(noise).to(x.dtype)
    total, weight = loss_sum(model(x), y)
    if task["sites"]:
        total = total + model.beta * model.divergence.sum()
    return total, weight


def error_of(ours, theirs):
    return max(abs(a - b) / abs(b) for a, b in zip(ours, theirs, strict=True))


def main():
    folder, recorded = sys.argv[1:]
    torch.set_num_threads(1)
    names, wrong = sorted(os.listdir(folder)), []
    for name in names:
        at = f"{folder}/{name}"
        with open(f"{at}/run.json") as file:
            run = json.load(file)
        losses, tests = train(at, read_task(at), run, torch.float64)
        error = error_of(run["losses"] + [loss for _, loss in run["tests"]], losses + tests)
        single = error_of(sum(train(at, read_task(at), run, torch.float32), []), losses + tests)
        print(f"{name}: {losses[0]:.4f} to {losses[-1]:.4f}, off by {error:.1e}; PyTorch's own singles {single:.1e}")
        if not error < TOLERANCE:
            wrong.append(name)
            continue
        with open(f"{recorded}/{name}.json", "w") as file:
            result = {"torch": torch.__version__, "start": run["start"], "losses": losses, "tests": tests}
            file.write(json.dumps(result, indent=1) + "\n")
    for file in os.listdir(recorded):
        if file.removesuffix(".json") not in names:
            os.remove(f"{recorded}/{file}")
    if wrong:
        raise SystemExit(f"too far off: {', '.join(wrong)}")


main()
