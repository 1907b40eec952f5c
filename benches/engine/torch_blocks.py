"""The engine's blocks in PyTorch, with its names and shapes of parameters.

A block takes `[rows, …]` as the engine's layer does: `[rows, n]`, `[rows, length, n]` or
`[rows, channels, height, width]`. `Layers` is a graph of them.
"""

import torch
from torch import nn
from torch.nn import functional as F

ACTIVATIONS = {"relu": nn.ReLU, "gelu": nn.GELU, "silu": nn.SiLU, "tanh": nn.Tanh, "sigmoid": nn.Sigmoid}


class Function(nn.Module):
    """A block without parameters."""

    def __init__(self, function):
        super().__init__()
        self.function = function

    def forward(self, *x):
        return self.function(*x)


class Conv1d(nn.Conv1d):
    """Along `[rows, length, channels]`."""

    def __init__(self, inputs, spec):
        self.before = spec.get("dilation", 1) * (spec["kernel"] - 1) if spec.get("causal") else 0
        super().__init__(inputs, spec["channels"], spec["kernel"], **conv_options(spec))

    def forward(self, x):
        return super().forward(F.pad(x.transpose(1, 2), (self.before, 0))).transpose(1, 2)


class ConvTranspose1d(nn.ConvTranspose1d):
    def forward(self, x):
        return super().forward(x.transpose(1, 2)).transpose(1, 2)


class AlongSequence(nn.Module):
    """A module over `[rows, channels, length]` for `[rows, length, channels]`; others are left as they are."""

    def __init__(self, module):
        super().__init__()
        self.module = module

    def forward(self, x):
        return self.module(x.transpose(1, 2)).transpose(1, 2) if x.dim() == 3 else self.module(x)


class BatchNorm(nn.modules.batchnorm._BatchNorm):
    """Of the last dimension, or of an image's channels."""

    def _check_input_dim(self, x):
        pass

    def forward(self, x):
        return super().forward(x.transpose(1, 2)).transpose(1, 2) if x.dim() == 3 else super().forward(x)


class GroupNorm(nn.GroupNorm):
    def forward(self, x):
        return super().forward(x.transpose(1, 2)).transpose(1, 2) if x.dim() == 3 else super().forward(x)


class Lstm(nn.LSTM):
    def forward(self, x):
        return super().forward(x)[0]


class Gru(nn.GRU):
    def forward(self, x):
        return super().forward(x)[0]


def recurrence(kind, inputs, spec):
    return kind(inputs, spec["units"], spec.get("layers", 1), batch_first=True)


class Position(nn.Module):
    def __init__(self, length, width):
        super().__init__()
        self.weight = nn.Parameter(torch.empty(length, width))

    def forward(self, x):
        return x + self.weight


class Attention(nn.Module):
    """Self-attention with the parameters of `nn.MultiheadAttention`, by PyTorch's fused kernel."""

    def __init__(self, width, spec):
        super().__init__()
        self.heads, self.causal = spec["heads"], spec.get("causal", False)
        self.kv_heads = spec.get("kv_heads") or self.heads
        self.bias, self.size, self.rotary = spec.get("bias", True), width // self.heads, spec.get("rotary", False)
        projected = width + 2 * self.kv_heads * self.size
        self.in_proj_weight = nn.Parameter(torch.empty(projected, width))
        self.in_proj_bias = nn.Parameter(torch.empty(projected)) if self.bias else None
        self.out_proj = nn.Linear(width, width, bias=self.bias)

    def forward(self, x):
        rows, length, width = x.shape
        projected = F.linear(x, self.in_proj_weight, self.in_proj_bias)
        heads = projected.view(rows, length, -1, self.size).transpose(1, 2)
        q, k, v = heads.split([self.heads, self.kv_heads, self.kv_heads], 1)
        if self.rotary:
            q, k = rotate(q), rotate(k)
        grouped = {"enable_gqa": True} if self.kv_heads != self.heads else {}
        y = F.scaled_dot_product_attention(q, k, v, is_causal=self.causal, **grouped)
        return self.out_proj(y.transpose(1, 2).reshape(rows, length, width))


def rotate(x):
    """Turns each pair of numbers by an angle that grows with the position."""
    length, half = x.shape[-2], x.shape[-1] // 2
    places, pairs = (torch.arange(count, dtype=x.dtype) for count in (length, half))
    angles = torch.outer(places, 10000.0 ** (-pairs / half))
    cos, sin = angles.cos(), angles.sin()
    a, b = x.split(half, -1)
    return torch.cat([a * cos - b * sin, a * sin + b * cos], -1)


def transpose_options(spec):
    options = {name: spec[name] for name in ("stride", "padding", "output_padding") if name in spec}
    return options | {"bias": spec.get("bias", True)}


def upsample(spec, shape):
    modes = {"bilinear": "bilinear" if len(shape) == 3 else "linear"}
    mode = modes.get(spec.get("mode"), "nearest")
    return AlongSequence(nn.Upsample(scale_factor=spec["factor"], mode=mode))


def side_by_side(*x):
    return torch.cat(x, 1 if x[0].dim() == 4 else -1)


def select(spec, task):
    if not spec.get("columns"):
        first = spec.get("first", 0)
        return Function(lambda x: x[:, first : first + spec["count"]])
    numbers = [number for name in spec["columns"] for number in numbers_of(task, name)]
    return Function(lambda x: x[:, numbers])


def numbers_of(task, name):
    column = next(column for column in task["columns"] if column["name"] == name)
    return range(column["first"], column["first"] + column["width"])


def vocabulary_of(task, name):
    return next(column["vocabulary"] for column in task["columns"] if column["name"] == name)


def conv_options(spec):
    options = {name: spec[name] for name in ("stride", "padding", "dilation", "groups") if name in spec}
    return options | {"bias": spec.get("bias", True)}


def pool_options(spec):
    return {"kernel_size": spec["kernel"], "stride": spec.get("stride"), "padding": spec.get("padding", 0)}


def mean_of_positions(x):
    return x.mean((2, 3)) if x.dim() == 4 else x.mean(1)


def max_of_positions(x):
    return x.amax((2, 3)) if x.dim() == 4 else x.amax(1)


# What a block is, given its spec, the shape of one row that it takes, and the task.
BLOCKS = {
    "linear": lambda spec, shape, task: nn.Linear(shape[-1], spec["units"], bias=spec.get("bias", True)),
    "conv1d": lambda spec, shape, task: Conv1d(shape[-1], spec),
    "conv2d": lambda spec, shape, task: nn.Conv2d(shape[0], spec["channels"], spec["kernel"], **conv_options(spec)),
    "conv_transpose1d": lambda spec, shape, task: ConvTranspose1d(
        shape[-1], spec["channels"], spec["kernel"], **transpose_options(spec)
    ),
    "conv_transpose2d": lambda spec, shape, task: nn.ConvTranspose2d(
        shape[0], spec["channels"], spec["kernel"], **transpose_options(spec)
    ),
    "max_pool1d": lambda spec, shape, task: AlongSequence(nn.MaxPool1d(**pool_options(spec))),
    "avg_pool1d": lambda spec, shape, task: AlongSequence(nn.AvgPool1d(**pool_options(spec))),
    "max_pool2d": lambda spec, shape, task: nn.MaxPool2d(**pool_options(spec)),
    "avg_pool2d": lambda spec, shape, task: nn.AvgPool2d(**pool_options(spec)),
    "global_avg_pool": lambda spec, shape, task: Function(mean_of_positions),
    "global_max_pool": lambda spec, shape, task: Function(max_of_positions),
    "upsample": lambda spec, shape, task: upsample(spec, shape),
    "flatten": lambda spec, shape, task: nn.Flatten(),
    "activation": lambda spec, shape, task: ACTIVATIONS[spec["function"]](),
    "embedding": lambda spec, shape, task: nn.Embedding(spec.get("vocabulary", task["vocabulary"]), spec["units"]),
    "position": lambda spec, shape, task: Position(*shape),
    "layer_norm": lambda spec, shape, task: nn.LayerNorm(shape[-1], eps=spec.get("epsilon", 1e-5)),
    "rms_norm": lambda spec, shape, task: nn.RMSNorm(shape[-1], eps=spec.get("epsilon", 1e-5)),
    "batch_norm": lambda spec, shape, task: BatchNorm(
        shape[0 if len(shape) == 3 else -1], eps=spec.get("epsilon", 1e-5), momentum=spec.get("momentum", 0.1)
    ),
    "group_norm": lambda spec, shape, task: GroupNorm(
        spec["groups"], shape[0 if len(shape) == 3 else -1], eps=spec.get("epsilon", 1e-5)
    ),
    "attention": lambda spec, shape, task: Attention(shape[-1], spec),
    "lstm": lambda spec, shape, task: recurrence(Lstm, shape[-1], spec),
    "gru": lambda spec, shape, task: recurrence(Gru, shape[-1], spec),
    "last_position": lambda spec, shape, task: Function(lambda x: x[:, -1]),
    "select": lambda spec, shape, task: select(spec, task),
    "dot": lambda spec, shape, task: Function(lambda a, b: (a.flatten(1) * b.flatten(1)).sum(1, keepdim=True)),
    "interact": lambda spec, shape, task: Function(interact),
    "add": lambda spec, shape, task: Function(lambda *x: sum(x[1:], x[0])),
    "concat": lambda spec, shape, task: Function(side_by_side),
}


def interact(*x):
    """The products of all pairs of vectors: (1, 0), (2, 0), (2, 1), …"""
    vectors = torch.cat([each if each.dim() == 3 else each.unsqueeze(1) for each in x], 1)
    products = vectors @ vectors.transpose(1, 2)
    above, below = torch.tril_indices(vectors.shape[1], vectors.shape[1], -1)
    return products[:, above, below]


def put(root, path, module):
    """Makes `module` the one at `path` below `root`."""
    *folders, name = path.split(".")
    for folder in folders:
        if folder not in root._modules:
            root.add_module(folder, nn.Module())
        root = root._modules[folder]
    root.add_module(name, module)


def outputs(task):
    """Numbers per row that the model gives."""
    return task["outputs"]


class Layers(nn.Module):
    """A graph of named blocks."""

    def __init__(self, spec, task):
        super().__init__()
        shape = spec.get("input") or task["input"]
        self.shape, self.steps, before = tuple(shape), [], "input"
        given = {"input": torch.zeros(2, *shape, dtype=torch.long if task["tokens"] else torch.float32)}
        with torch.no_grad():
            for index, layer in enumerate(spec["layers"]):
                name = layer.get("name") or f"{layer['type']}{index}"
                inputs = layer.get("inputs") or [before]
                module = BLOCKS[layer["type"]](layer, tuple(given[inputs[0]].shape[1:]), task)
                put(self, layer.get("name") or f"layers.{index}", module)
                given[name] = module(*(given[i] for i in inputs))
                self.steps.append((module, inputs, name))
                before = name
        # A chain keeps no value longer than it must, as `nn.Sequential` doesn't.
        names = ["input"] + [name for _, _, name in self.steps]
        self.chain = all(inputs == [before] for (_, inputs, _), before in zip(self.steps, names))

    def forward(self, x):
        x = x.view(-1, *self.shape)
        given = {"input": x}
        for module, inputs, name in self.steps:
            if self.chain:
                x = module(x)
            else:
                x = given[name] = module(*(given[i] for i in inputs))
        return x
