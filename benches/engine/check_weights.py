"""Runs our weights in PyTorch and our ONNX models in onnxruntime: `check_weights.py FOLDER`.

FOLDER holds a folder per case, as `bench-engine weights` writes them. The modules below are what a user would write;
`load_state_dict` is strict, and scores must be the engine's.
"""

import json
import os
import sys

import numpy
import onnx
import onnxruntime
import torch
from safetensors.torch import load_file
from torch import nn

TOLERANCE = 1e-5


class Mlp(nn.Module):
    def __init__(self, spec, task):
        super().__init__()
        layers, width = [], task["input"][0]
        for units in spec["hidden"]:
            layers += [nn.Linear(width, units), nn.GELU(), nn.Dropout(spec["dropout"])]
            width = units
        self.layers = nn.Sequential(*layers, nn.Linear(width, task["outputs"]))

    def forward(self, x):
        return self.layers(x)


class Cnn(nn.Module):
    def __init__(self, spec, task):
        super().__init__()
        layers, (before, height, width) = [], task["input"]
        for channels in spec["channels"]:
            layers += [nn.Conv2d(before, channels, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2)]
            before, height, width = channels, height // 2, width // 2
        layers += [nn.Flatten(), nn.Linear(before * height * width, spec["dense"][0]), nn.ReLU()]
        self.layers = nn.Sequential(*layers, nn.Linear(spec["dense"][0], task["outputs"]))

    def forward(self, x):
        return self.layers(x)


class Residual(nn.Module):
    """torchvision's BasicBlock and Bottleneck."""

    def __init__(self, before, channels, stride, bottleneck):
        super().__init__()
        if bottleneck:
            sizes = [(before, channels, 1, 1), (channels, channels, 3, stride), (channels, 4 * channels, 1, 1)]
        else:
            sizes = [(before, channels, 3, stride), (channels, channels, 3, 1)]
        self.depth, self.given = len(sizes), sizes[-1][1]
        for index, (given, out, kernel, step) in enumerate(sizes, 1):
            self.add_module(f"conv{index}", nn.Conv2d(given, out, kernel, step, kernel // 2, bias=False))
            self.add_module(f"bn{index}", nn.BatchNorm2d(out))
        self.downsample = None
        if stride != 1 or before != self.given:
            self.downsample = nn.Sequential(nn.Conv2d(before, self.given, 1, stride, bias=False),
                                            nn.BatchNorm2d(self.given))

    def forward(self, x):
        y = x
        for index in range(1, self.depth + 1):
            y = getattr(self, f"bn{index}")(getattr(self, f"conv{index}")(y))
            y = y.relu() if index < self.depth else y
        return (y + (self.downsample(x) if self.downsample else x)).relu()


class Resnet(nn.Module):
    def __init__(self, spec, task):
        super().__init__()
        before, large = spec["channels"][0], spec.get("stem") == "large"
        self.conv1 = nn.Conv2d(3, before, 7 if large else 3, 2 if large else 1, 3 if large else 1, bias=False)
        self.bn1 = nn.BatchNorm2d(before)
        self.maxpool = nn.MaxPool2d(3, 2, 1) if large else nn.Identity()
        self.stages = len(spec["depths"])
        for stage, (depth, channels) in enumerate(zip(spec["depths"], spec["channels"]), 1):
            blocks = []
            for index in range(depth):
                stride = 2 if stage > 1 and index == 0 else 1
                blocks.append(Residual(before, channels, stride, spec.get("block") == "bottleneck"))
                before = blocks[-1].given
            self.add_module(f"layer{stage}", nn.Sequential(*blocks))
        self.fc = nn.Linear(before, task["outputs"])

    def forward(self, x):
        x = self.maxpool(self.bn1(self.conv1(x)).relu())
        for stage in range(1, self.stages + 1):
            x = getattr(self, f"layer{stage}")(x)
        return self.fc(x.mean((2, 3)))


class Transformer(nn.Module):
    """`gpt`, and `encoder` over tokens with a class per row."""

    def __init__(self, spec, task):
        super().__init__()
        width, self.causal = spec["width"], spec["family"] == "gpt"
        length, self.pooled = task["input"][0], task["outputs"] == task["classes"]
        self.embedding = nn.Embedding(task["vocabulary"], width)
        self.position = nn.Embedding(length, width)
        self.layers = nn.ModuleList(
            nn.TransformerEncoderLayer(width, spec["heads"], 4 * width, activation="gelu", batch_first=True,
                                       norm_first=True) for _ in range(spec["depth"]))
        self.norm = nn.LayerNorm(width)
        self.head = nn.Linear(width, task["classes"], bias=not self.causal)
        self.register_buffer("mask", nn.Transformer.generate_square_subsequent_mask(length), persistent=False)

    def forward(self, ids):
        x = self.embedding(ids) + self.position.weight
        for layer in self.layers:
            x = layer(x, src_mask=self.mask if self.causal else None)
        x = self.norm(x)
        return self.head(x.mean(1) if self.pooled else x)


class Recurrent(nn.Module):
    def __init__(self, spec, task):
        super().__init__()
        self.embedding = nn.Embedding(task["vocabulary"], spec["embedding"])
        self.cell = spec.get("cell", "lstm")
        kind = nn.GRU if self.cell == "gru" else nn.LSTM
        self.add_module(self.cell, kind(spec["embedding"], spec["units"], spec["layers"], batch_first=True))
        self.head = nn.Linear(spec["units"], task["classes"])

    def forward(self, ids):
        states, _ = getattr(self, self.cell)(self.embedding(ids))
        return self.head(states[:, -1])


class Causal(nn.Module):
    def __init__(self, before, channels, kernel, dilation):
        super().__init__()
        self.before = (kernel - 1) * dilation
        self.conv1 = nn.Conv1d(before, channels, kernel, dilation=dilation)
        self.conv2 = nn.Conv1d(channels, channels, kernel, dilation=dilation)
        self.downsample = nn.Conv1d(before, channels, 1) if before != channels else None

    def forward(self, x):
        y = x
        for conv in (self.conv1, self.conv2):
            y = conv(nn.functional.pad(y, (self.before, 0))).relu()
        return (y + (self.downsample(x) if self.downsample else x)).relu()


class Tcn(nn.Module):
    def __init__(self, spec, task):
        super().__init__()
        self.embedding = nn.Embedding(task["vocabulary"], spec["embedding"])
        widths = [spec["embedding"], *spec["channels"]]
        self.layers = nn.ModuleList(Causal(before, channels, spec["kernel"], 2**index)
                                    for index, (before, channels) in enumerate(zip(widths, widths[1:])))
        self.head = nn.Linear(widths[-1], task["classes"])

    def forward(self, ids):
        x = self.embedding(ids).transpose(1, 2)
        for layer in self.layers:
            x = layer(x)
        return self.head(x[:, :, -1])


MODULES = {
    "mlp": Mlp, "cnn": Cnn, "resnet": Resnet, "gpt": Transformer, "encoder": Transformer, "lstm": Recurrent, "tcn": Tcn,
}


def off(scores, expected):
    assert scores.size == expected.size, (scores.shape, expected.shape)
    return float(numpy.abs(scores.ravel() - expected).max())


def check(folder, name):
    with open(f"{folder}/task.json") as file:
        task = json.load(file)
    spec, found = task["model"], {}
    x = numpy.fromfile(f"{folder}/features.f32", dtype="<f4").reshape(task["rows"], *task["input"])
    x = x.astype("int64") if task["tokens"] else x
    expected = numpy.fromfile(f"{folder}/scores.f32", dtype="<f4")
    # Attention with shared keys or rotary positions is no module of PyTorch's.
    if spec["family"] in MODULES and spec.get("positions") != "rotary":
        model = MODULES[spec["family"]](spec, task)
        model.load_state_dict(load_file(f"{folder}/weights.safetensors"), strict=True)
        with torch.no_grad():
            found["PyTorch"] = off(model.eval()(torch.from_numpy(x)).numpy(), expected)
    if os.path.exists(f"{folder}/model.onnx"):
        onnx.checker.check_model(onnx.load(f"{folder}/model.onnx"), full_check=True)
        session = onnxruntime.InferenceSession(f"{folder}/model.onnx")
        scores = session.run(["scores"], {"features": x})[0]
        found["ONNX"] = off(scores, expected)
        few = session.run(["scores"], {"features": x[:3]})[0]
        found["ONNX, 3 rows"] = off(few, expected[:few.size])
    print(f"{name:20}", ", ".join(f"{side} off by {apart:.1e}" for side, apart in found.items()))
    return bool(found) and max(found.values()) <= TOLERANCE * max(1.0, numpy.abs(expected).max())


names = sorted(os.listdir(sys.argv[1]))
wrong = [name for name in names if not check(f"{sys.argv[1]}/{name}", name)]
if wrong or not names:
    raise SystemExit(f"too far off: {wrong or 'nothing was written'}")
