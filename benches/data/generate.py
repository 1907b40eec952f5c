"""Makes the files that the readers are measured on, once, in the cache."""

import io
import os
import pathlib
import tarfile

import numpy
import polars
import pyarrow
import pyarrow.parquet
from PIL import Image, ImageDraw

PART_ROWS = 250_000
PICTURES = 20_000
FLOATS = [f"x{i}" for i in range(16)]
INTEGERS = [f"k{i}" for i in range(4)]
COLUMNS = FLOATS + INTEGERS


def part(rng):
    """Some rows: 16 columns of measures, 4 of whole numbers."""
    columns = {name: rng.normal(i, 1 + i, PART_ROWS).round(5) for i, name in enumerate(FLOATS)}
    for i, name in enumerate(INTEGERS):
        columns[name] = rng.integers(0, 10 ** (i + 1), PART_ROWS)
    return polars.DataFrame(columns)


def write_csv(path, size):
    rng = numpy.random.default_rng(1)
    with open(path, "wb") as file:
        while file.tell() < size:
            part(rng).write_csv(file, include_header=file.tell() == 0)


def write_parquet(path, size):
    rng = numpy.random.default_rng(2)
    first = part(rng).to_arrow()
    with pyarrow.parquet.ParquetWriter(path, first.schema) as writer:
        while os.path.getsize(path) < size:
            writer.write_table(part(rng).to_arrow())


def picture(rng):
    """Something like a photograph: soft noise, and shapes on it."""
    width, height = (int(n) for n in rng.integers(64, 225, 2))
    coarse = rng.integers(0, 256, (height // 16 + 1, width // 16 + 1, 3), numpy.uint8)
    soft = Image.fromarray(coarse).resize((width, height), Image.Resampling.BICUBIC)
    draw = ImageDraw.Draw(soft)
    for _ in range(6):
        x, y = rng.integers(0, width), rng.integers(0, height)
        box = [int(x), int(y), int(x + rng.integers(8, 80)), int(y + rng.integers(8, 80))]
        draw.ellipse(box, fill=tuple(int(c) for c in rng.integers(0, 256, 3)))
    grain = rng.normal(0, 6, (height, width, 1))
    return Image.fromarray(numpy.clip(numpy.asarray(soft) + grain, 0, 255).astype(numpy.uint8))


def write_pictures(path, _):
    rng = numpy.random.default_rng(3)
    with tarfile.open(path, "w") as archive:
        for index in range(PICTURES):
            bytes_ = io.BytesIO()
            picture(rng).save(bytes_, "JPEG", quality=90)
            entry = tarfile.TarInfo(f"{index % 10}/{index:05}.jpg")
            entry.size = bytes_.tell()
            bytes_.seek(0)
            archive.addfile(entry, bytes_)


def files(size):
    """The path of each file by its kind."""
    cache = pathlib.Path(os.environ.get("XDG_CACHE_HOME", pathlib.Path.home() / ".cache"))
    folder = cache / "stoker" / "bench-data"
    folder.mkdir(parents=True, exist_ok=True)
    made = {}
    kinds = {"csv": (write_csv, "csv"), "parquet": (write_parquet, "parquet"), "jpeg": (write_pictures, "tar")}
    for kind, (write, ending) in kinds.items():
        name = f"{kind}-{size >> 20}m.{ending}" if kind != "jpeg" else f"pictures-{PICTURES}.{ending}"
        made[kind] = folder / name
        if not made[kind].exists():
            print(f"making {made[kind]}", flush=True)
            part_path = made[kind].with_suffix(".part")
            write(part_path, size)
            part_path.rename(made[kind])
    return made
