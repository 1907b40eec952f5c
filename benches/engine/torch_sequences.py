"""The families over sequences."""

from torch import nn
from torch.nn import functional as F

from torch_blocks import Attention, Position, outputs


def predicts_at_each(task):
    return task["target"].get("positions", 1) > 1


def outputs_of_head(task):
    """Of one position where there is a class at each, else of the row."""
    return task["target"]["classes"] if predicts_at_each(task) else outputs(task)


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


class Transformer(nn.Module):
    """`gpt` and `encoder`: an embedding, positions, blocks, a last normalisation, and the head."""

    def __init__(self, spec, task):
        super().__init__()
        width, causal = spec.get("width", 128), spec["family"] == "gpt"
        rotary, self.masked = spec.get("positions") == "rotary", spec.get("masked") is not None
        if task["tokens"]:
            tokens = spec.get("vocabulary") or task["vocabulary"]
            self.embedding = nn.Embedding(tokens + self.masked, width)
        else:
            self.shape = spec.get("input") or task["input"]
            self.embedding = nn.Linear(self.shape[-1], width)
        self.tokens = task["tokens"]
        length = task["input"][0] if self.tokens else self.shape[0]
        self.position = None if rotary else Position(length, width)
        block = {"heads": spec.get("heads", 4), "causal": causal, "rotary": rotary} | spec
        self.layers = nn.ModuleList([TransformerBlock(width, block) for _ in range(spec.get("depth", 4))])
        self.norm = nn.LayerNorm(width)
        self.at_each = predicts_at_each(task)
        self.head = nn.Linear(width, outputs_of_head(task), bias=not causal)

    def forward(self, x):
        x = self.embedding(x if self.tokens else x.view(-1, *self.shape))
        x = self.position(x) if self.position else x
        for block in self.layers:
            x = block(x)
        x = self.norm(x)
        return self.head(x if self.at_each else x.mean(1))


class OverSequence(nn.Module):
    """What `lstm` and `tcn` have in common: an embedding or numbers at first, and the head."""

    def __init__(self, spec, task):
        super().__init__()
        shape = spec.get("input") or task["input"]
        self.shape = tuple(shape) if len(shape) == 2 else (shape[0], 1)
        self.embedding, self.width = None, self.shape[-1]
        if spec.get("embedding"):
            self.width = spec["embedding"]
            self.embedding = nn.Embedding(spec.get("vocabulary") or task["vocabulary"], self.width)
        self.at_each = predicts_at_each(task)

    def forward(self, x):
        x = self.body(self.embedding(x.long()) if self.embedding else x.float().view(-1, *self.shape))
        return self.head(x if self.at_each else x[:, -1])


class Recurrent(OverSequence):
    def __init__(self, spec, task):
        super().__init__(spec, task)
        self.cell, kinds = spec.get("cell", "lstm"), {"lstm": nn.LSTM, "gru": nn.GRU}
        units = spec.get("units", 128)
        self.add_module(self.cell, kinds[self.cell](self.width, units, spec.get("layers", 2), batch_first=True))
        self.head = nn.Linear(units, outputs_of_head(task))

    def body(self, x):
        return getattr(self, self.cell)(x)[0]


class TcnBlock(nn.Module):
    def __init__(self, inputs, channels, kernel, dilation):
        super().__init__()
        self.before = (kernel - 1) * dilation
        self.conv1 = nn.Conv1d(inputs, channels, kernel, dilation=dilation)
        self.conv2 = nn.Conv1d(channels, channels, kernel, dilation=dilation)
        self.downsample = nn.Conv1d(inputs, channels, 1) if inputs != channels else None

    def forward(self, x):
        y = F.relu(self.conv1(F.pad(x, (self.before, 0))))
        y = F.relu(self.conv2(F.pad(y, (self.before, 0))))
        return F.relu(y + (self.downsample(x) if self.downsample else x))


class Tcn(OverSequence):
    def __init__(self, spec, task):
        super().__init__(spec, task)
        blocks, inputs = [], self.width
        for index, channels in enumerate(spec.get("channels", [64] * 4)):
            blocks.append(TcnBlock(inputs, channels, spec.get("kernel", 3), 1 << index))
            inputs = channels
        self.layers = nn.Sequential(*blocks)
        self.head = nn.Linear(inputs, outputs_of_head(task))

    def body(self, x):
        return self.layers(x.transpose(1, 2)).transpose(1, 2)
