"""The engine's models in PyTorch: a module per block and per family, with the engine's names and shapes of parameters.

`build(task)` makes the model of a task: its spec is `task["model"]`, a row's shape `task["input"]`. A module takes
`[rows, …]` as the engine's layer does: `[rows, n]`, `[rows, length, n]` or `[rows, channels, height, width]`.
"""

import torch
from torch import nn
from torch.nn import functional as F

ACTIVATIONS = {"relu": nn.ReLU, "gelu": nn.GELU, "silu": nn.SiLU, "tanh": nn.Tanh, "sigmoid": nn.Sigmoid}


def build(task):
    spec = task["model"]
    return FAMILIES[spec["family"]](spec, task) if "family" in spec else Layers(spec, task)


# ---- blocks


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
        self.bias, self.size = spec.get("bias", True), width // self.heads
        projected = width + 2 * self.kv_heads * self.size
        self.in_proj_weight = nn.Parameter(torch.empty(projected, width))
        self.in_proj_bias = nn.Parameter(torch.empty(projected)) if self.bias else None
        self.out_proj = nn.Linear(width, width, bias=self.bias)

    def forward(self, x):
        rows, length, width = x.shape
        projected = F.linear(x, self.in_proj_weight, self.in_proj_bias)
        heads = projected.view(rows, length, -1, self.size).transpose(1, 2)
        q, k, v = heads.split([self.heads, self.kv_heads, self.kv_heads], 1)
        grouped = {"enable_gqa": True} if self.kv_heads != self.heads else {}
        y = F.scaled_dot_product_attention(q, k, v, is_causal=self.causal, **grouped)
        return self.out_proj(y.transpose(1, 2).reshape(rows, length, width))


def conv_options(spec):
    options = {name: spec[name] for name in ("stride", "padding", "dilation", "groups") if name in spec}
    return options | {"bias": spec.get("bias", True)}


def pool_options(spec):
    return {"kernel_size": spec["kernel"], "stride": spec.get("stride"), "padding": spec.get("padding", 0)}


def mean_of_positions(x):
    return x.mean((2, 3)) if x.dim() == 4 else x.mean(1)


# What a block is, given its spec, the shape of one row that it takes, and the task.
BLOCKS = {
    "linear": lambda spec, shape, task: nn.Linear(shape[-1], spec["units"], bias=spec.get("bias", True)),
    "conv1d": lambda spec, shape, task: Conv1d(shape[-1], spec),
    "conv2d": lambda spec, shape, task: nn.Conv2d(shape[0], spec["channels"], spec["kernel"], **conv_options(spec)),
    "max_pool2d": lambda spec, shape, task: nn.MaxPool2d(**pool_options(spec)),
    "avg_pool2d": lambda spec, shape, task: nn.AvgPool2d(**pool_options(spec)),
    "global_avg_pool": lambda spec, shape, task: Function(mean_of_positions),
    "flatten": lambda spec, shape, task: nn.Flatten(),
    "activation": lambda spec, shape, task: ACTIVATIONS[spec["function"]](),
    "embedding": lambda spec, shape, task: nn.Embedding(spec.get("vocabulary", task["vocabulary"]), spec["units"]),
    "position": lambda spec, shape, task: Position(*shape),
    "layer_norm": lambda spec, shape, task: nn.LayerNorm(shape[-1], eps=spec.get("epsilon", 1e-5)),
    "rms_norm": lambda spec, shape, task: nn.RMSNorm(shape[-1], eps=spec.get("epsilon", 1e-5)),
    "attention": lambda spec, shape, task: Attention(shape[-1], spec),
    "add": lambda spec, shape, task: Function(lambda *x: sum(x[1:], x[0])),
}


def put(root, path, module):
    """Makes `module` the one at `path` below `root`."""
    *folders, name = path.split(".")
    for folder in folders:
        if folder not in root._modules:
            root.add_module(folder, nn.Module())
        root = root._modules[folder]
    root.add_module(name, module)


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


# ---- families


def outputs(task):
    return task["outputs"]


def activation_of(spec):
    return {"type": "activation", "function": spec.get("activation", "relu")}


def dense(widths, spec):
    return [layer for units in widths for layer in ({"type": "linear", "units": units}, activation_of(spec))]


def mlp(spec, task):
    layers = dense(spec.get("hidden", [128]), spec) + [{"type": "linear", "units": outputs(task)}]
    return Layers({"layers": layers}, task)


def cnn(spec, task):
    kernel, pool, layers = spec.get("kernel", 3), spec.get("pool", 2), []
    for channels in spec.get("channels", [32, 64]):
        layers.append({"type": "conv2d", "channels": channels, "kernel": kernel, "padding": kernel // 2})
        layers.append(activation_of(spec))
        if pool > 1:
            layers.append({"type": "max_pool2d", "kernel": pool})
    layers += [{"type": "flatten"}, *dense(spec.get("dense", [128]), spec), {"type": "linear", "units": outputs(task)}]
    return Layers({"input": spec["input"], "layers": layers}, task)


class TransformerBlock(nn.Module):
    """PyTorch's `TransformerEncoderLayer` with `norm_first` and GELU."""

    def __init__(self, width, spec):
        super().__init__()
        units = spec.get("feed_forward") or 4 * width
        self.norm1, self.norm2 = nn.LayerNorm(width), nn.LayerNorm(width)
        self.self_attn = Attention(width, spec)
        self.linear1, self.linear2 = nn.Linear(width, units), nn.Linear(units, width)

    def forward(self, x):
        x = x + self.self_attn(self.norm1(x))
        return x + self.linear2(F.gelu(self.linear1(self.norm2(x))))


class Gpt(nn.Module):
    def __init__(self, spec, task):
        super().__init__()
        width, tokens = spec.get("width", 128), spec.get("vocabulary") or task["vocabulary"]
        block = {"heads": spec.get("heads", 4), "causal": True} | spec
        self.embedding, self.position = nn.Embedding(tokens, width), Position(task["input"][0], width)
        self.layers = nn.ModuleList([TransformerBlock(width, block) for _ in range(spec.get("depth", 4))])
        self.norm = nn.LayerNorm(width)
        self.head = nn.Linear(width, task["target"]["classes"], bias=False)

    def forward(self, x):
        x = self.position(self.embedding(x))
        for block in self.layers:
            x = block(x)
        return self.head(self.norm(x))


FAMILIES = {"mlp": mlp, "cnn": cnn, "gpt": Gpt}
