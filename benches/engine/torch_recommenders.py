"""Recommenders and autoencoders."""

import torch
from torch import nn

from torch_blocks import ACTIVATIONS, interact, numbers_of, vocabulary_of


class Dense(nn.Sequential):
    """Hidden layers with activations, and a last one: numbered by the linear layers alone."""

    def __init__(self, inputs, hidden, units, spec, after=False):
        widths = [inputs, *hidden, units]
        super().__init__(*(nn.Linear(a, b) for a, b in zip(widths, widths[1:])))
        self.activation, self.after = [ACTIVATIONS[spec.get("activation", "relu")]()], after

    def forward(self, x):
        for index, layer in enumerate(self):
            x = layer(x)
            if index + 1 < len(self) or self.after:
                x = self.activation[0](x)
        return x


class Tower(nn.Module):
    def __init__(self, spec, task, id_column, mine):
        super().__init__()
        dim, hidden = spec.get("dim", 32), spec.get("hidden", [])
        self.columns = [numbers_of(task, id_column)[0]]
        self.embedding = nn.Embedding(vocabulary_of(task, id_column), dim)
        categorical = [name for name in spec.get("categorical", []) if mine(name)]
        self.ids = [list(numbers_of(task, name)) for name in categorical]
        self.embeddings = nn.ModuleList([nn.Embedding(vocabulary_of(task, name), dim) for name in categorical])
        self.numbers = [n for name in spec.get("numeric", []) if mine(name) for n in numbers_of(task, name)]
        known = dim * (1 + sum(map(len, self.ids))) + len(self.numbers)
        self.layers = Dense(known, hidden, dim, spec) if known > dim or hidden else None

    def forward(self, x):
        known = [self.embedding(x[:, self.columns[0]].long())]
        known += [table(x[:, ids].long()).flatten(1) for table, ids in zip(self.embeddings, self.ids)]
        known += [x[:, self.numbers]] if self.numbers else []
        known = torch.cat(known, 1) if len(known) > 1 else known[0]
        return self.layers(known) if self.layers else known


class MatrixFactorisation(nn.Module):
    def __init__(self, spec, task):
        super().__init__()
        self.columns = [numbers_of(task, spec[side])[0] for side in ("user", "item")]
        users, items = (vocabulary_of(task, spec[side]) for side in ("user", "item"))
        dim = spec.get("dim", 32)
        self.user, self.item = nn.Embedding(users, dim), nn.Embedding(items, dim)
        self.user_bias, self.item_bias = nn.Embedding(users, 1), nn.Embedding(items, 1)
        self.bias = nn.Parameter(torch.empty(1))

    def forward(self, x):
        user, item = (x[:, column].long() for column in self.columns)
        product = (self.user(user) * self.item(item)).sum(1, keepdim=True)
        return product + self.user_bias(user) + self.item_bias(item) + self.bias


class TwoTower(nn.Module):
    def __init__(self, spec, task):
        super().__init__()
        of_item = set(spec.get("item_columns", []))
        self.user = Tower(spec, task, spec["user"], lambda name: name not in of_item)
        self.item = Tower(spec, task, spec["item"], lambda name: name in of_item)

    def forward(self, x):
        return (self.user(x) * self.item(x)).sum(1, keepdim=True)


class Dlrm(nn.Module):
    def __init__(self, spec, task):
        super().__init__()
        dim = spec.get("dim", 32)
        names = [spec[side] for side in ("user", "item") if side in spec] + spec.get("categorical", [])
        self.ids = [list(numbers_of(task, name)) for name in names]
        self.embeddings = nn.ModuleList([nn.Embedding(vocabulary_of(task, name), dim) for name in names])
        self.numbers = [number for name in spec.get("numeric", []) for number in numbers_of(task, name)]
        vectors = sum(map(len, self.ids)) + bool(self.numbers)
        products = vectors * (vectors - 1) // 2
        if self.numbers:
            self.bottom = Dense(len(self.numbers), spec.get("bottom", []), dim, spec, after=True)
            products += dim
        self.top = Dense(products, spec.get("hidden", []), 1, spec)

    def forward(self, x):
        vectors = [table(x[:, ids].long()) for table, ids in zip(self.embeddings, self.ids)]
        if not self.numbers:
            return self.top(interact(*vectors))
        dense = self.bottom(x[:, self.numbers])
        return self.top(torch.cat([dense, interact(dense, *vectors)], 1))


def recommender(spec, task):
    kinds = {"matrix_factorisation": MatrixFactorisation, "two_tower": TwoTower, "dlrm": Dlrm}
    return kinds[spec["kind"]](spec, task)


class Autoencoder(nn.Module):
    """A plain one, or a variational one, which keeps the divergence of its codes in `divergence`: a number per row.

    `noise` holds the standard normal numbers that are taken in training, since the engine draws its own.
    """

    def __init__(self, spec, task):
        super().__init__()
        width, hidden, latent = task["input"][0], spec.get("hidden", [128]), spec.get("latent", 16)
        self.vae, self.noise = spec.get("kind") == "vae", None
        self.beta = spec.get("beta", 1.0)
        if self.vae:
            self.encoder = Dense(width, hidden[:-1], hidden[-1], spec, after=True)
            self.mean, self.log_variance = nn.Linear(hidden[-1], latent), nn.Linear(hidden[-1], latent)
        else:
            self.encoder = Dense(width, hidden, latent, spec)
        self.decoder = Dense(latent, hidden[::-1], width, spec)

    def forward(self, x):
        code = self.encoder(x)
        if self.vae:
            mean, log_variance = self.mean(code), self.log_variance(code)
            self.divergence = (mean**2 + log_variance.exp() - 1 - log_variance).sum(1) / 2
            code = mean + self.noise * (log_variance / 2).exp() if self.training else mean
        return self.decoder(code)
