"""How the engine trains, in PyTorch: losses, optimisers and schedules, by the spec's `train`."""

import math

import torch
from torch.nn import functional as F

from torch_models import build


def load_model(folder, task):
    """The model with our weights: all of them, and no others."""
    from safetensors.torch import load_file

    model = build(task)
    saved = load_file(f"{folder}/weights.safetensors")
    saved = {name: value for name, value in saved.items() if not name.startswith("optimizer.")}
    own = {name: value for name, value in model.state_dict().items() if not name.endswith("num_batches_tracked")}
    if own.keys() != saved.keys():
        raise SystemExit(f"parameters differ: {sorted(own.keys() ^ saved.keys())}")
    with torch.no_grad():
        for name, value in own.items():
            if value.shape != saved[name].shape:
                raise SystemExit(f"{name} is {list(value.shape)} here, {list(saved[name].shape)} in the engine")
            value.copy_(saved[name])
    return model


def last_classes(scores, task):
    """`[rows, positions, classes]`, also where the classes of a picture's positions come first."""
    if scores.dim() == 4:
        scores = scores.permute(0, 2, 3, 1)
    return scores.reshape(scores.shape[0], -1, task["target"]["classes"])


def loss_of(task):
    """A function of scores and targets that gives the sum of their losses, and what they count."""
    loss = task["train"]["loss"]
    loss = {"name": loss} if isinstance(loss, str) else loss
    name = loss["name"]
    rows = {"mse": F.mse_loss, "mae": F.l1_loss, "bce": F.binary_cross_entropy_with_logits}
    weights = loss.get("class_weights")
    weights = torch.tensor(weights) if weights else None

    def cross_entropy(scores, y):
        scores, y = last_classes(scores, task).flatten(0, 1), y.flatten()
        weight = None if weights is None else weights.to(scores.dtype)
        smoothing = loss.get("label_smoothing", 0.0)
        total = F.cross_entropy(scores, y, weight=weight, label_smoothing=smoothing, reduction="sum")
        counted = y[y >= 0]
        return total, len(counted) if weights is None else weights[counted].sum()

    def dice(scores, y):
        p = last_classes(scores, task).softmax(-1)
        t = F.one_hot(y, p.shape[-1]).to(p.dtype)
        share = (2 * (p * t).sum(1) + loss["smooth"]) / (p.sum(1) + t.sum(1) + loss["smooth"])
        return (1 - share.mean(-1)).sum() * y.shape[1], y.numel()

    def values(scores, y):
        if name == "huber":
            total = F.huber_loss(scores, y, delta=loss["delta"], reduction="none").mean(-1).sum()
        elif name == "kl":
            total = F.kl_div(scores.log_softmax(-1), y, reduction="sum")
        elif name == "quantile":
            levels = torch.tensor(loss["levels"], dtype=scores.dtype)
            error = y.unsqueeze(-1) - scores.view(*y.shape, -1)
            total = torch.maximum(levels * error, (levels - 1) * error).mean((1, 2)).sum()
        else:
            total = rows[name](scores.flatten(1), y, reduction="none").mean(-1).sum()
        return total, len(y)

    return {"cross_entropy": cross_entropy, "dice": dice}.get(name, values)


def mean_loss_of(task):
    """The mean loss of a batch, as users write it."""
    name, classes = task["train"]["loss"], task["target"].get("classes")
    of_values = {"mse": F.mse_loss, "bce": F.binary_cross_entropy_with_logits}

    def cross_entropy(scores, y):
        if scores.dim() == 4:
            return F.cross_entropy(scores, y.view(len(y), *scores.shape[2:]))
        return F.cross_entropy(scores.reshape(-1, classes), y.flatten())

    def values(scores, y):
        return of_values[name](scores.flatten(1), y)

    return cross_entropy if classes else values


def make_optimizer(model, train, fused=False):
    spec = train["optimizer"]
    if spec["name"] == "sgd":
        options = {name: spec[name] for name in ("momentum", "nesterov", "weight_decay")}
        return torch.optim.SGD(model.parameters(), lr=spec["learning_rate"], **options)
    return torch.optim.AdamW(
        model.parameters(), lr=spec["learning_rate"], betas=tuple(spec["betas"]), eps=spec["epsilon"],
        weight_decay=spec["weight_decay"], fused=fused,
    )


def share_of_rate(schedule, step, steps):
    """The share of the learning rate at a step, which counts from 0."""
    name, warmup = schedule["name"], schedule.get("warmup_steps", 0)
    if step < warmup:
        return (step + 1) / warmup
    done = min((step - warmup) / max(steps - 1 - warmup, 1), 1)
    half = lambda a, b, t: b + (a - b) * (1 + math.cos(math.pi * t)) / 2
    end = schedule.get("min_share", 0)
    if name == "cosine":
        return half(1, end, done)
    if name == "linear":
        return 1 - done * (1 - end)
    if name == "step":
        return schedule["factor"] ** (step // schedule["every_steps"])
    if name == "one_cycle":
        rise = schedule["rise"]
        if done < rise:
            return half(schedule["start_share"], 1, done / rise)
        return half(1, end, (done - rise) / (1 - rise))
    return 1


class Plateau:
    """PyTorch's `ReduceLROnPlateau`, which waits for an evaluation more."""

    def __init__(self, optimizer, schedule):
        self.scheduler = torch.optim.lr_scheduler.ReduceLROnPlateau(
            optimizer, factor=schedule["factor"], patience=schedule["patience"] - 1, threshold=0, threshold_mode="abs",
            min_lr=schedule["min_share"] * optimizer.param_groups[0]["lr"],
        )

    def evaluated(self, loss):
        self.scheduler.step(loss)
