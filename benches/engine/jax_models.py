"""The models of `bench-engine`'s shapes as JAX functions of `p`, the parameters by the engine's names.

A function takes the task, `p`, the buffers of the normalisations and a batch, and gives scores; what it writes to `new`
are the buffers after the step.
"""

import jax
import jax.numpy as jnp
from jax import lax


def linear(p, at, x):
    y = x @ p[f"{at}.weight"].T
    return y + p[f"{at}.bias"] if f"{at}.bias" in p else y


def conv(p, at, x, stride=1, padding=0):
    dimensions = ("NCHW", "OIHW", "NCHW")
    pads = [(padding, padding)] * 2
    y = lax.conv_general_dilated(x, p[f"{at}.weight"], (stride, stride), pads, dimension_numbers=dimensions)
    return y + p[f"{at}.bias"][None, :, None, None] if f"{at}.bias" in p else y


def max_pool(x, size, stride=None, padding=0):
    window, steps = (1, 1, size, size), (1, 1, stride or size, stride or size)
    return lax.reduce_window(x, -jnp.inf, lax.max, window, steps, [(0, 0)] * 2 + [(padding, padding)] * 2)


def norm(p, at, x):
    x = x - jnp.mean(x, -1, keepdims=True)
    x = x / jnp.sqrt(jnp.mean(x * x, -1, keepdims=True) + 1e-5)
    return x * p[f"{at}.weight"] + p[f"{at}.bias"]


def batch_norm(p, at, buffers, new, x, momentum=0.1):
    count = x.size // x.shape[1]
    mean = jnp.mean(x, (0, 2, 3), keepdims=True)
    variance = jnp.mean((x - mean) ** 2, (0, 2, 3), keepdims=True)
    for name, seen in (("mean", mean), ("var", variance * count / (count - 1))):
        name = f"{at}.running_{name}"
        new[name] = (1 - momentum) * buffers[name] + momentum * seen.ravel()
    gain, bias = (p[f"{at}.{name}"][None, :, None, None] for name in ("weight", "bias"))
    return (x - mean) * lax.rsqrt(variance + 1e-5) * gain + bias


def layers(task, p, buffers, new, x):
    """A chain of blocks: those of the shapes."""
    for index, layer in enumerate(task["model"]["layers"]):
        at = f"layers.{index}"
        if layer["type"] == "linear":
            x = linear(p, at, x)
        elif layer["type"] == "conv2d":
            x = conv(p, at, x, layer.get("stride", 1), layer.get("padding", 0))
        elif layer["type"] == "max_pool2d":
            x = max_pool(x, layer["kernel"])
        elif layer["type"] == "flatten":
            x = x.reshape(x.shape[0], -1)
        elif layer == {"type": "activation", "function": "relu"}:
            x = jax.nn.relu(x)
        else:
            raise SystemExit(f"no block for {layer}")
    return x


def mlp(task, p, buffers, new, x):
    count = len(task["model"]["hidden"])
    for index in range(count):
        x = jax.nn.relu(linear(p, f"layers.{2 * index}", x))
    return linear(p, f"layers.{2 * count}", x)


def attention(p, at, x, heads):
    rows, length, width = x.shape
    x = x @ p[f"{at}.in_proj_weight"].T + p[f"{at}.in_proj_bias"]
    q, k, v = x.reshape(rows, length, 3, heads, width // heads).transpose(2, 0, 3, 1, 4)
    scores = q @ k.transpose(0, 1, 3, 2) / (width // heads) ** 0.5
    scores = jnp.where(jnp.tril(jnp.ones((length, length), bool)), scores, -jnp.inf)
    y = (jax.nn.softmax(scores) @ v).transpose(0, 2, 1, 3).reshape(rows, length, width)
    return y @ p[f"{at}.out_proj.weight"].T + p[f"{at}.out_proj.bias"]


def gpt(task, p, buffers, new, x):
    x = p["embedding.weight"][x] + p["position.weight"]
    for index in range(task["model"]["depth"]):
        at = f"layers.{index}"
        x = x + attention(p, f"{at}.self_attn", norm(p, f"{at}.norm1", x), task["model"]["heads"])
        hidden = linear(p, f"{at}.linear1", norm(p, f"{at}.norm2", x))
        x = x + linear(p, f"{at}.linear2", jax.nn.gelu(hidden, approximate=False))
    return linear(p, "head", norm(p, "norm", x))


def resnet(task, p, buffers, new, x):
    norm = lambda at, x: batch_norm(p, at, buffers, new, x)
    x = jax.nn.relu(norm("bn1", conv(p, "conv1", x, 1, 1)))
    for stage, depth in enumerate(task["model"].get("depths", [2, 2, 2, 2])):
        for index in range(depth):
            at, stride = f"layer{stage + 1}.{index}", 2 if stage and not index else 1
            y = jax.nn.relu(norm(f"{at}.bn1", conv(p, f"{at}.conv1", x, stride, 1)))
            y = norm(f"{at}.bn2", conv(p, f"{at}.conv2", y, 1, 1))
            if f"{at}.downsample.0.weight" in p:
                x = norm(f"{at}.downsample.1", conv(p, f"{at}.downsample.0", x, stride))
            x = jax.nn.relu(x + y)
    return linear(p, "fc", jnp.mean(x, (2, 3)))


def unet(task, p, buffers, new, x):
    def twice(at, x):
        for index in (1, 2):
            x = conv(p, f"{at}.conv{index}", x, 1, 1)
            x = jax.nn.relu(batch_norm(p, f"{at}.norm{index}", buffers, new, x))
        return x

    def double(at, x):
        rows, _, height, width = x.shape
        weight = p[f"{at}.weight"]
        y = jnp.einsum("rchw,cdij->rdhiwj", x, weight).reshape(rows, weight.shape[1], 2 * height, 2 * width)
        return y + p[f"{at}.bias"][None, :, None, None]

    depth, skips = task["model"].get("depth", 3), []
    for level in range(depth):
        x = twice(f"down.{level}", x)
        skips.append(x)
        x = max_pool(x, 2)
    x = twice("middle", x)
    for step in range(depth):
        x = twice(f"up.{step}", jnp.concatenate([skips.pop(), double(f"up.{step}.upconv", x)], 1))
    return conv(p, "head", x)


def lstm(task, p, buffers, new, x):
    x = p["embedding.weight"][x] if "embedding.weight" in p else x.reshape(*x.shape[:2], -1)
    for index in range(task["model"]["layers"]):
        names = ("weight_ih", "weight_hh", "bias_ih", "bias_hh")
        of_input, of_state, bias, more = (p[f"lstm.{name}_l{index}"] for name in names)
        gates = x @ of_input.T + bias + more

        def step(state, gates):
            h, c = state
            i, f, g, o = jnp.split(gates + h @ of_state.T, 4, -1)
            c = jax.nn.sigmoid(f) * c + jax.nn.sigmoid(i) * jnp.tanh(g)
            h = jax.nn.sigmoid(o) * jnp.tanh(c)
            return (h, c), h

        zeros = jnp.zeros((x.shape[0], of_state.shape[1]))
        x = lax.scan(step, (zeros, zeros), gates.transpose(1, 0, 2))[1].transpose(1, 0, 2)
    return linear(p, "head", x if task["target"].get("positions", 1) > 1 else x[:, -1])


def recommender(task, p, buffers, new, x):
    columns = {column["name"]: column["first"] for column in task["columns"]}
    user, item = (x[:, columns[task["model"][side]]].astype(int) for side in ("user", "item"))
    product = jnp.sum(p["user.weight"][user] * p["item.weight"][item], 1, keepdims=True)
    return product + p["user_bias.weight"][user] + p["item_bias.weight"][item] + p["bias"]


FAMILIES = {"mlp": mlp, "gpt": gpt, "resnet": resnet, "unet": unet, "lstm": lstm, "recommender": recommender}


def loss_of(task):
    """The mean loss of a batch by the parameters, and the buffers after it."""
    family, loss = task["model"].get("family"), task["train"]["loss"]
    model = FAMILIES[family] if family else layers

    def mean_loss(p, buffers, x, y):
        new = {}
        scores = model(task, p, buffers, new, x)
        if loss == "cross_entropy":
            if scores.ndim == 4:
                scores = scores.transpose(0, 2, 3, 1)
            scores = jax.nn.log_softmax(scores.reshape(-1, task["target"]["classes"]))
            value = -jnp.mean(jnp.take_along_axis(scores, y.reshape(-1, 1), 1))
        elif loss == "mse":
            value = jnp.mean((scores.reshape(y.shape) - y) ** 2)
        else:
            scores = scores.reshape(y.shape)
            value = jnp.mean(jax.nn.softplus(scores) - y * scores)
        return value, new

    return mean_loss
