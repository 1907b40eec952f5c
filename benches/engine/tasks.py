"""Reads what `bench-engine` exports: a task and its rows."""

import json

import numpy


def read_task(folder):
    with open(f"{folder}/task.json") as file:
        return json.load(file)


def read_data(folder, task):
    """All rows: features `[rows, …]`, and targets: classes `[rows, positions]` or numbers `[rows, n]`."""
    x = numpy.fromfile(f"{folder}/features.f32", dtype="<f4").reshape(task["rows"], *task["input"])
    x = x.astype("int64") if task["tokens"] else x
    if task.get("own_features"):
        return x, x.reshape(task["rows"], -1)
    classes = "classes" in task["target"]
    y = numpy.fromfile(f"{folder}/targets", dtype="<u4" if classes else "<f4").reshape(task["rows"], -1)
    return x, y.astype("int64") if classes else y
