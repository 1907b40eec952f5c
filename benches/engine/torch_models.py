"""The engine's models in PyTorch, by family.

`build(task)` makes the model of a task: its spec is `task["model"]`, a row's shape `task["input"]`; parameters have the
engine's names and shapes.
"""

from torch_blocks import Layers, outputs
from torch_images import Resnet, Unet
from torch_recommenders import Autoencoder, recommender
from torch_sequences import Recurrent, Tcn, Transformer


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


FAMILIES = {
    "mlp": mlp, "cnn": cnn, "resnet": Resnet, "unet": Unet, "gpt": Transformer, "encoder": Transformer,
    "lstm": Recurrent, "tcn": Tcn, "recommender": recommender, "autoencoder": Autoencoder,
}


def build(task):
    spec = task["model"]
    return FAMILIES[spec["family"]](spec, task) if "family" in spec else Layers(spec, task)
