"""What `bench-engine` compares the engine with: PyTorch (eager, eager with the fused AdamW, compiled) and JAX (jit).

`peer.py BACKEND THREADS FOLDER`: the folder holds the task, its rows and our initial weights. Lines on stdin drive it
and it answers each with one JSON line: `losses N` (N steps, their losses), `block N` (N steps, their time), `memory`.
Between them it waits on stdin, so that the engine has the machine to itself.

The models are in `torch_models.py` and `jax_models.py`, by family.
"""

import json
import os
import sys
import time

backend, threads, folder = sys.argv[1], int(sys.argv[2]), sys.argv[3]
os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[:threads])


def say(answer):
    print(json.dumps(answer), flush=True)


def memory(field):
    with open("/proc/self/status") as file:
        return next(int(line.split()[1]) * 1024 for line in file if line.startswith(field))


def torch_step():
    """A function that makes one step and gives its loss as a tensor."""
    import safetensors.torch
    import torch

    from tasks import read_data, read_task
    from torch_training import load_model, make_optimizer, mean_loss_of

    torch.set_num_threads(threads)
    task = read_task(folder)
    x, y = (torch.from_numpy(array) for array in read_data(folder, task))

    def start():
        model = load_model(folder, task).train()
        optimizer = make_optimizer(model, task["train"], fused=backend == "fused")
        forward = torch.compile(model) if backend == "compile" else model
        mean_loss = mean_loss_of(task)

        def step():
            optimizer.zero_grad()
            loss = mean_loss(forward(x), y)
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
    import safetensors.numpy

    from jax_models import loss_of
    from tasks import read_data, read_task

    task = read_task(folder)
    x, y = (jnp.asarray(array) for array in read_data(folder, task))
    optimizer = task["train"]["optimizer"]
    rate, decay, epsilon = (optimizer[name] for name in ("learning_rate", "weight_decay", "epsilon"))
    beta1, beta2 = optimizer["betas"]
    loss_and_gradient = jax.value_and_grad(loss_of(task), has_aux=True)

    def update(p, m, v, buffers, t):
        (loss, buffers), g = loss_and_gradient(p, buffers, x, y)
        m = jax.tree.map(lambda m, g: beta1 * m + (1 - beta1) * g, m, g)
        v = jax.tree.map(lambda v, g: beta2 * v + (1 - beta2) * g * g, v, g)

        def adamw(p, m, v):
            size = jnp.sqrt(v) / jnp.sqrt(1 - beta2**t) + epsilon
            return p * (1 - rate * decay) - rate / (1 - beta1**t) * m / size

        return loss, jax.tree.map(adamw, p, m, v), m, v, buffers

    def start():
        saved = safetensors.numpy.load_file(f"{folder}/weights.safetensors")
        saved = {name: jnp.asarray(array) for name, array in saved.items() if not name.startswith("optimizer.")}
        buffers = {name: array for name, array in saved.items() if ".running_" in name}
        p = {name: array for name, array in saved.items() if name not in buffers}
        zeros = {name: jnp.zeros_like(array) for name, array in p.items()}
        state = {"p": p, "m": zeros, "v": zeros, "buffers": buffers, "t": 0}
        compiled = jax.jit(update)

        def step():
            state["t"] += 1
            taken = (state[key] for key in ("p", "m", "v", "buffers"))
            loss, state["p"], state["m"], state["v"], state["buffers"] = compiled(*taken, float(state["t"]))
            return loss

        return step

    return f"jax {jax.__version__}", start


def main():
    version, start = jax_step() if backend == "jax" else torch_step()
    with open("/proc/self/clear_refs", "w") as file:
        file.write("5")  # starts the peak again from here
    level, program = memory("VmRSS"), memory("RssFile")
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
            # Without the pages of programs themselves, which are read as they come to them.
            say({"bytes": memory("VmHWM") - level - (memory("RssFile") - program)})


main()
