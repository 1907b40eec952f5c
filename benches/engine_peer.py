"""What `bench-engine` compares the engine with: PyTorch (eager, eager with the fused AdamW, compiled) and JAX (jit).

Lines on stdin drive it and it answers each with one JSON line: `losses N` (N steps, their losses), `block N` (N steps,
their time), `memory`. Between them it waits on stdin, so that the engine has the machine to itself.

A shape is one entry in TORCH and one in JAX, under the name that `engine.rs` gives it. A model's parameters have the
names and shapes of the engine's: its layers are `layers.0`, `layers.1`, …
"""

import json
import os
import sys
import time

backend, shape, threads, folder = sys.argv[1], sys.argv[2], int(sys.argv[3]), sys.argv[4]
os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[:threads])
with open(f"{folder}/task.json") as file:
    task = json.load(file)


def say(answer):
    print(json.dumps(answer), flush=True)


def memory(field):
    with open("/proc/self/status") as file:
        return next(int(line.split()[1]) * 1024 for line in file if line.startswith(field))


def read_data():
    import numpy

    x = numpy.fromfile(f"{folder}/features.f32", dtype="<f4").reshape(task["batch"], *task["input"])
    y = numpy.fromfile(f"{folder}/classes.u32", dtype="<u4").astype("int64")
    return x, y


def torch_step():
    """A function that makes one step and gives its loss as a tensor."""
    import torch
    from torch import nn

    torch.set_num_threads(threads)
    class Attention(nn.Module):
        """Causal self-attention with the parameters of `nn.MultiheadAttention`, by PyTorch's fused kernel."""

        def __init__(self, width, heads):
            super().__init__()
            self.heads = heads
            self.in_proj_weight = nn.Parameter(torch.empty(3 * width, width))
            self.in_proj_bias = nn.Parameter(torch.empty(3 * width))
            self.out_proj = nn.Linear(width, width)

        def forward(self, x):
            rows, length, width = x.shape
            projected = nn.functional.linear(x, self.in_proj_weight, self.in_proj_bias)
            heads = projected.view(rows, length, 3, self.heads, width // self.heads).permute(2, 0, 3, 1, 4)
            y = nn.functional.scaled_dot_product_attention(*heads, is_causal=True)
            return self.out_proj(y.transpose(1, 2).reshape(rows, length, width))

    class Block(nn.Module):
        def __init__(self, width, heads):
            super().__init__()
            self.norm1, self.norm2 = nn.LayerNorm(width), nn.LayerNorm(width)
            self.self_attn = Attention(width, heads)
            self.linear1, self.linear2 = nn.Linear(width, 4 * width), nn.Linear(4 * width, width)

        def forward(self, x):
            x = x + self.self_attn(self.norm1(x))
            return x + self.linear2(nn.functional.gelu(self.linear1(self.norm2(x))))

    class Gpt(nn.Module):
        def __init__(self, tokens, length, depth, width, heads):
            super().__init__()
            self.embedding, self.position = nn.Embedding(tokens, width), nn.Embedding(length, width)
            self.layers = nn.ModuleList([Block(width, heads) for _ in range(depth)])
            self.norm, self.head = nn.LayerNorm(width), nn.Linear(width, tokens, bias=False)

        def forward(self, x):
            x = self.embedding(x) + self.position.weight
            for block in self.layers:
                x = block(x)
            return self.head(self.norm(x)).flatten(0, 1)

    def sequence(*layers):
        model = nn.Module()
        model.layers = nn.Sequential(*layers)
        model.forward = model.layers.forward
        return model

    models = {
        "mlp": lambda: sequence(
            *(nn.Linear(784, 256), nn.ReLU(), nn.Linear(256, 256), nn.ReLU()),
            nn.Linear(256, 10),
        ),
        "cnn": lambda: sequence(
            *(nn.Conv2d(1, 32, 3), nn.ReLU(), nn.Conv2d(32, 64, 3), nn.ReLU(), nn.MaxPool2d(2)),
            *(nn.Flatten(), nn.Linear(64 * 144, 128), nn.ReLU(), nn.Linear(128, 10)),
        ),
        "gpt": lambda: Gpt(65, 128, 4, 128, 4),
    }
    x, y = (torch.from_numpy(array) for array in read_data())
    if shape == "gpt":
        x = x.long()

    def start():
        from safetensors.torch import load_file

        model = models[shape]()
        saved = load_file(f"{folder}/weights.safetensors")
        model.load_state_dict({name: saved[name] for name in model.state_dict()})
        optimizer = torch.optim.AdamW(
            model.parameters(),
            lr=task["learning_rate"],
            betas=(0.9, 0.999),
            eps=1e-8,
            weight_decay=task["weight_decay"],
            fused=backend == "fused",
        )
        forward = torch.compile(model) if backend == "compile" else model

        def step():
            optimizer.zero_grad()
            loss = nn.functional.cross_entropy(forward(x), y)
            loss.backward()
            optimizer.step()
            return loss

        return step

    return f"torch {torch.__version__}", start


def jax_step():
    """The same in JAX."""
    os.environ["JAX_PLATFORMS"] = "cpu"
    if threads == 1:
        os.environ["XLA_FLAGS"] = "--xla_cpu_multi_thread_eigen=false intra_op_parallelism_threads=1"
    import jax
    import jax.numpy as jnp
    from jax import lax

    def linear(p, at, x):
        return x @ p[f"layers.{at}.weight"].T + p[f"layers.{at}.bias"]

    def conv(p, at, x):
        dimensions = ("NCHW", "OIHW", "NCHW")
        y = lax.conv_general_dilated(x, p[f"layers.{at}.weight"], (1, 1), "VALID", dimension_numbers=dimensions)
        return y + p[f"layers.{at}.bias"][None, :, None, None]

    def mlp(p, x):
        x = jax.nn.relu(linear(p, 0, x))
        return linear(p, 4, jax.nn.relu(linear(p, 2, x)))

    def cnn(p, x):
        x = jax.nn.relu(conv(p, 2, jax.nn.relu(conv(p, 0, x))))
        x = lax.reduce_window(x, -jnp.inf, lax.max, (1, 1, 2, 2), (1, 1, 2, 2), "VALID")
        return linear(p, 8, jax.nn.relu(linear(p, 6, x.reshape(x.shape[0], -1))))

    def norm(p, at, x):
        x = x - jnp.mean(x, -1, keepdims=True)
        x = x / jnp.sqrt(jnp.mean(x * x, -1, keepdims=True) + 1e-5)
        return x * p[f"{at}.weight"] + p[f"{at}.bias"]

    def attention(p, at, x, heads=4):
        rows, length, width = x.shape
        x = x @ p[f"{at}.in_proj_weight"].T + p[f"{at}.in_proj_bias"]
        q, k, v = x.reshape(rows, length, 3, heads, width // heads).transpose(2, 0, 3, 1, 4)
        scores = q @ k.transpose(0, 1, 3, 2) / (width // heads) ** 0.5
        scores = jnp.where(jnp.tril(jnp.ones((length, length), bool)), scores, -jnp.inf)
        y = (jax.nn.softmax(scores) @ v).transpose(0, 2, 1, 3).reshape(rows, length, width)
        return y @ p[f"{at}.out_proj.weight"].T + p[f"{at}.out_proj.bias"]

    def gpt(p, x):
        x = p["embedding.weight"][x.astype(int)] + p["position.weight"]
        for at in range(4):
            x = x + attention(p, f"layers.{at}.self_attn", norm(p, f"layers.{at}.norm1", x))
            hidden = linear(p, f"{at}.linear1", norm(p, f"layers.{at}.norm2", x))
            x = x + linear(p, f"{at}.linear2", jax.nn.gelu(hidden, approximate=False))
        scores = norm(p, "norm", x) @ p["head.weight"].T
        return scores.reshape(-1, scores.shape[-1])

    model = {"mlp": mlp, "cnn": cnn, "gpt": gpt}[shape]
    x, y = (jnp.asarray(array) for array in read_data())
    rate, decay, beta1, beta2, epsilon = task["learning_rate"], task["weight_decay"], 0.9, 0.999, 1e-8

    def loss_of(p):
        scores = jax.nn.log_softmax(model(p, x))
        return -jnp.mean(jnp.take_along_axis(scores, y[:, None], 1))

    def update(p, m, v, t):
        loss, g = jax.value_and_grad(loss_of)(p)
        m = jax.tree.map(lambda m, g: beta1 * m + (1 - beta1) * g, m, g)
        v = jax.tree.map(lambda v, g: beta2 * v + (1 - beta2) * g * g, v, g)

        def adamw(p, m, v):
            size = jnp.sqrt(v) / jnp.sqrt(1 - beta2**t) + epsilon
            return p * (1 - rate * decay) - rate / (1 - beta1**t) * m / size

        return loss, jax.tree.map(adamw, p, m, v), m, v

    def start():
        from safetensors.numpy import load_file

        saved = load_file(f"{folder}/weights.safetensors")
        p = {name: jnp.asarray(array) for name, array in saved.items() if not name.startswith("optimizer.")}
        zeros = {name: jnp.zeros_like(array) for name, array in p.items()}
        state = {"p": p, "m": zeros, "v": zeros, "t": 0}
        compiled = jax.jit(update)

        def step():
            state["t"] += 1
            loss, state["p"], state["m"], state["v"] = compiled(*(state[key] for key in "pmv"), float(state["t"]))
            return loss

        return step

    return f"jax {jax.__version__}", start


def main():
    version, start = jax_step() if backend == "jax" else torch_step()
    with open("/proc/self/clear_refs", "w") as file:
        file.write("5")  # starts the peak again from here
    level = memory("VmRSS")
    step = start()
    say({"version": version})
    for line in sys.stdin:
        verb, *count = line.split()
        if verb == "losses":
            say({"losses": [step().item() for _ in range(int(count[0]))]})
        elif verb == "block":
            wall, cpu = time.perf_counter(), time.process_time()
            for _ in range(int(count[0])):
                loss = step()
            loss.item()  # the work is done when a number is there
            say({"wall_s": time.perf_counter() - wall, "cpu_s": time.process_time() - cpu})
        elif verb == "memory":
            say({"bytes": memory("VmHWM") - level})


main()
