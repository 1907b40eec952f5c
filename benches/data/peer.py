"""One pass of a peer over a file: prints seconds, rows and column sums as JSON."""

import json
import os
import sys
import time

os.environ["POLARS_MAX_THREADS"] = "2"
BATCH_ROWS = 8_192


def table(scan, path, columns):
    """Batches of 32-bit numbers, as polars streams them."""
    import numpy
    import polars

    sums, rows = numpy.zeros(len(columns)), 0
    lazy = getattr(polars, scan)(path).select(polars.col(columns).cast(polars.Float32))
    for frame in lazy.collect_batches(chunk_size=BATCH_ROWS, maintain_order=True):
        batch = frame.to_numpy(order="c")
        sums += batch.sum(0, dtype=numpy.float64)
        rows += len(batch)
    return rows, sums.tolist()


class Pictures:
    """The JPEGs of a tar, found once by their offsets."""

    def __init__(self, path):
        import tarfile

        self.path = path
        with tarfile.open(path) as archive:
            self.places = [(entry.offset_data, entry.size) for entry in archive if entry.isfile()]
        self.file = None

    def __len__(self):
        return len(self.places)

    def __getitem__(self, index):
        import io

        import numpy
        import torch
        from PIL import Image

        if self.file is None:
            self.file = open(self.path, "rb")
        offset, size = self.places[index]
        self.file.seek(offset)
        picture = Image.open(io.BytesIO(self.file.read(size)))
        return torch.from_numpy(numpy.array(picture))


def pictures(path):
    """Pictures as 32-bit numbers, decoded by two worker processes in order."""
    import torch

    torch.set_num_threads(1)
    rows, total = 0, 0.0
    loader = torch.utils.data.DataLoader(Pictures(path), batch_size=64, num_workers=2, collate_fn=list)
    for batch in loader:
        for picture in batch:
            total += float(picture.float().sum())
        rows += len(batch)
    return rows, [total]


def main():
    kind, path, *columns = sys.argv[1:]
    if kind == "jpeg":
        import torch.utils.data
    else:
        import polars
    begin = time.perf_counter()
    if kind == "jpeg":
        rows, sums = pictures(path)
    else:
        rows, sums = table(f"scan_{kind}", path, columns)
    seconds = time.perf_counter() - begin
    print(json.dumps({"seconds": seconds, "rows": rows, "sums": sums}))


main()
