"""Records what scikit-learn measures: `record_metrics.py RECORDED`.

Each case is a table of scores and targets, random or degenerate, in single precision, with the value of each metric in
double precision; null where it is undefined. What scikit-learn doesn't have is worked out here, from its definition.
"""

import json
import math
import sys
import warnings

import numpy as np
from sklearn import metrics as sk

random = np.random.default_rng(7)
warnings.simplefilter("ignore")


def single(numbers, digits=3):
    return np.round(numbers, digits).astype(np.float32)


def normal(*shape, scale=2.0):
    return single(random.normal(size=shape) * scale)


def wide(scores):
    return np.asarray(scores, dtype=np.float64)


def log_softmax(scores):
    scores = wide(scores)
    scores = scores - scores.max(axis=1, keepdims=True)
    return scores - np.log(np.exp(scores).sum(axis=1, keepdims=True))


def log_odds(scores, k):
    """Of a class against all others: as its probability sorts them, but never rounded to 1."""

    def of(row):
        others = [float(score) for index, score in enumerate(row) if index != k]
        highest = max(others)
        return float(row[k]) - highest - math.log(math.fsum(math.exp(score - highest) for score in others))

    return np.array([of(row) for row in scores])


def sigmoid(scores):
    return np.where(scores < 0, np.exp(np.minimum(scores, 0)) / (1 + np.exp(np.minimum(scores, 0))),
                    1 / (1 + np.exp(-np.maximum(scores, 0))))


def defined(value):
    value = float(value)
    return value if math.isfinite(value) else None


def mean_defined(values):
    values = [value for value in values if value is not None]
    return sum(values) / len(values) if values else None


def calibration(probability, right, bins=15):
    """The expected calibration error of Guo et al. 2017."""
    place = np.clip(np.ceil(probability * bins).astype(int), 1, bins)
    apart = sum(abs(right[place == bin].sum() - probability[place == bin].sum()) for bin in range(1, bins + 1))
    return defined(apart / len(right))


def counts(y, predicted, average, **more):
    settings = {"average": average, "zero_division": 0, **more}
    return {
        "precision": sk.precision_score(y, predicted, **settings),
        "recall": sk.recall_score(y, predicted, **settings),
        "f1": sk.f1_score(y, predicted, **settings),
        "dice": sk.f1_score(y, predicted, **settings),
        "iou": sk.jaccard_score(y, predicted, **settings),
    }


def recall_at(relevant, scores, k):
    """Equal scores share their places: the mean over their orders."""
    if not relevant.any():
        return None
    found = 0.0
    for score in np.unique(scores):
        above, equal = (scores > score).sum(), (scores == score).sum()
        found += relevant[scores == score].sum() * (min(k, above + equal) - min(k, above)) / equal
    return found / relevant.sum()


def ndcg(relevance, scores, k=None):
    if len(scores) == 1:  # scikit-learn refuses it
        return 1.0 if relevance[0] > 0 else 0.0
    return sk.ndcg_score(wide(relevance)[None], wide(scores)[None], k=k)


def case(name, target, loss, scores, targets, expected, groups=None):
    """`expected`: pairs of a metric and its value."""
    kind = "classes" if np.asarray(targets).dtype.kind in "iu" else "values"
    scores = np.asarray(scores, dtype=np.float32)
    found = {
        "name": name, "target": target, "loss": loss, "outputs": int(scores.shape[1]),
        "scores": [float(score) for score in scores.ravel()],
        kind: np.asarray(targets).ravel().tolist(),
        "metrics": [{"metric": {"builtin": metric, **({"config": config} if config else {})},
                     "value": None if value is None else defined(value)} for metric, config, value in expected],
    }
    if groups is not None:
        found["groups"] = [float(group) for group in groups]
    return found


def classes(name, scores, y, ks=(1,)):
    """Class targets, each score one of a softmax."""
    scores, y = np.asarray(scores, dtype=np.float32), np.asarray(y)
    count = scores.shape[1]
    predicted = scores.argmax(axis=1)
    expected = [("accuracy", {}, sk.accuracy_score(y, predicted))]
    for average in ("macro", "micro"):
        expected += [(metric, {"average": average}, value) for metric, value in counts(y, predicted, average).items()]
    if count == 2:
        present = set(y) | set(predicted)
        binary = counts(y, predicted, "binary") if 1 in present else dict.fromkeys(counts(y, predicted, "micro"), 0.0)
        expected += [(metric, {}, value) for metric, value in binary.items()]
    else:
        expected += [(metric, {}, value) for metric, value in counts(y, predicted, "macro").items()]
    for k in range(count):
        one = counts(y, predicted, "macro", labels=[k])
        expected += [(metric, {"positive": k}, value) for metric, value in one.items()]
    for k in ks:
        top = sk.top_k_accuracy_score(y, scores, k=k, labels=range(count)) if count > 2 else None
        if count == 2:
            order = np.argsort(scores, axis=1, kind="stable")[:, ::-1][:, :k]
            top = (order == y[:, None]).any(axis=1).mean()
        expected.append(("top_k", {"k": k}, top))
        one_hot = np.eye(count)[y]
        expected.append(("ndcg", {"k": k}, sk.ndcg_score(one_hot, wide(scores), k=k)))
        hits = [recall_at(row, score, k) for row, score in zip(one_hot, scores)]
        expected.append(("recall_at", {"k": k}, np.mean(hits)))
    expected.append(("ndcg", {}, sk.ndcg_score(np.eye(count)[y], wide(scores))))
    odds = [wide(scores)[:, 1] - wide(scores)[:, 0]] if count == 2 else [log_odds(scores, k) for k in range(count)]
    own = [y == 1] if count == 2 else [y == k for k in range(count)]
    areas = [defined(sk.roc_auc_score(is_own, odd)) for is_own, odd in zip(own, odds)]
    expected.append(("roc_auc", {}, mean_defined(areas)))
    if count > 2 and len(set(y)) == count and len(np.unique(scores)) > 100:
        # With equal scores the softmax's rounding would break ties.
        probabilities = np.exp(log_softmax(scores))
        assert abs(sk.roc_auc_score(y, probabilities, multi_class="ovr") - mean_defined(areas)) < 1e-12
    expected.append(("pr_auc", {}, np.mean([sk.average_precision_score(is_own, odd) for is_own, odd in zip(own, odds)])))
    likelihood = -log_softmax(scores)[np.arange(len(y)), y].mean()
    expected += [("perplexity", {}, np.exp(likelihood) if likelihood < 700 else math.inf),
                 ("bits_per_char", {}, likelihood / math.log(2))]
    confidence = np.exp(log_softmax(scores).max(axis=1))
    for bins in (15, 7):
        expected.append(("calibration_error", {"bins": bins}, calibration(confidence, predicted == y, bins)))
    return case(name, {"classes": count}, "cross_entropy", scores, y, expected)


def logits(name, scores, targets):
    """Targets of 0 and 1, each score a logit."""
    scores = np.asarray(scores, dtype=np.float32)
    y, predicted = (np.asarray(targets) >= 0.5).astype(int), (scores > 0).astype(int)
    flat, flat_scores = y.ravel(), wide(scores).ravel()
    expected = [("accuracy", {}, sk.accuracy_score(flat, predicted.ravel()))]
    for settings in ({}, {"average": "micro"}, {"positive": 1}):
        one = counts(flat, predicted.ravel(), "macro", labels=[1])
        expected += [(metric, settings, value) for metric, value in one.items()]
    columns = range(y.shape[1])
    if y.shape[1] > 1:
        each = counts(y, predicted, "macro")
        expected += [(metric, {"average": "macro"}, value) for metric, value in each.items()]
        areas = [defined(sk.roc_auc_score(y[:, k], scores[:, k])) for k in columns]
        expected.append(("roc_auc", {"average": "macro"}, mean_defined(areas)))
        areas = [sk.average_precision_score(y[:, k], scores[:, k]) for k in columns]
        expected.append(("pr_auc", {"average": "macro"}, np.mean(areas)))
    expected += [("roc_auc", {}, sk.roc_auc_score(flat, flat_scores)),
                 ("pr_auc", {}, sk.average_precision_score(flat, flat_scores))]
    p = sigmoid(flat_scores)
    expected.append(("calibration_error", {}, calibration(np.maximum(p, 1 - p), predicted.ravel() == flat)))
    return case(name, {"values": y.shape[1]}, "bce", scores, np.asarray(targets, dtype=np.float32), expected)


def values(name, scores, targets, loss="mse"):
    scores, targets = np.asarray(scores, dtype=np.float32), np.asarray(targets, dtype=np.float32)
    y, p = wide(targets).ravel(), wide(scores).ravel()
    expected = [("mae", {}, sk.mean_absolute_error(y, p)), ("rmse", {}, sk.root_mean_squared_error(y, p)),
                ("mape", {}, sk.mean_absolute_percentage_error(y, p)),
                ("pinball", {}, sk.mean_pinball_loss(y, p)),
                ("pinball", {"level": 0.9}, sk.mean_pinball_loss(y, p, alpha=0.9))]
    return case(name, {"values": targets.shape[1]}, loss, scores, targets, expected)


def quantiles(name, scores, targets, levels):
    """`scores`: [rows, values, levels]."""
    losses = [sk.mean_pinball_loss(wide(targets).ravel(), wide(scores)[:, :, index].ravel(), alpha=level)
              for index, level in enumerate(levels)]
    expected = [("pinball", {}, np.mean(losses))]
    expected += [("pinball", {"level": level}, loss) for level, loss in zip(levels, losses)]
    rows, count, _ = scores.shape
    target = {"quantiles": {"values": count, "levels": len(levels)}}
    return case(name, target, {"name": "quantile", "levels": levels}, scores.reshape(rows, -1), targets, expected)


def rankings(name, scores, relevance):
    """The scores of a row are ranked."""
    scores, relevance = np.asarray(scores, dtype=np.float32), np.asarray(relevance, dtype=np.float32)
    negative = relevance.min() < 0
    expected = [("ndcg", {"k": k} if k else {}, None if negative else sk.ndcg_score(relevance, wide(scores), k=k))
                for k in (None, 1, 3, 100)]
    for k, threshold in ((1, 1), (3, 2), (100, 1)):
        rows = [recall_at(row >= threshold, score, k) for row, score in zip(relevance, scores)]
        expected.append(("recall_at", {"k": k, "threshold": threshold}, mean_defined(rows)))
    return case(name, {"values": scores.shape[1]}, "mse", scores, relevance, expected)


def groups(name, scores, relevance, users):
    """The scores of a user's rows are ranked."""
    expected = []
    each = [users == user for user in np.unique(users)]
    for k in (None, 2):
        found = [ndcg(relevance[own], scores[own], k) for own in each]
        expected.append(("ndcg", {"group": "user", **({"k": k} if k else {})}, np.mean(found)))
    for k, threshold in ((2, 1), (5, 4)):
        found = [recall_at(relevance[own] >= threshold, scores[own], k) for own in each]
        expected.append(("recall_at", {"group": "user", "k": k, "threshold": threshold}, mean_defined(found)))
    return case(name, {"values": 1}, "mse", scores[:, None], relevance.astype(np.float32)[:, None], expected, users)


def record():
    y5, y2 = random.integers(0, 5, 60), random.integers(0, 2, 80)
    extreme = single(random.choice([-3e38, -1e30, 0, 1e-30, 1e30], size=(24, 2)), 40)
    yield classes("five classes", normal(60, 5), y5, ks=(1, 2, 5))
    yield classes("five classes, ties", single(random.integers(-1, 2, (60, 5))), y5, ks=(1, 3))
    yield classes("five classes, two without rows", normal(30, 5), random.integers(1, 4, 30), ks=(2,))
    yield classes("five classes, one there", normal(12, 5), np.full(12, 3), ks=(2,))
    yield classes("five classes, all equal", np.zeros((11, 5)), y5[:11], ks=(1, 2))
    yield classes("five classes, one row", normal(1, 5), [2], ks=(1, 2))
    yield classes("four classes, far apart", single(random.choice([-900, 0, 30, 700], size=(24, 4))),
                  random.integers(0, 4, 24), ks=(1,))
    yield classes("two classes", normal(80, 2), y2)
    yield classes("two classes, ties", single(random.integers(-2, 3, (80, 2))), y2)
    yield classes("two classes, none there", normal(10, 2), np.zeros(10, dtype=int))
    yield classes("two classes, only the other", normal(10, 2), np.ones(10, dtype=int))
    yield classes("two classes, neither seen nor there", np.tile([1.0, 0.0], (6, 1)), np.zeros(6, dtype=int))
    yield classes("two classes, all equal", np.full((9, 2), 0.25), y2[:9])
    yield classes("two classes, extreme", extreme, random.integers(0, 2, 24))
    yield logits("logits", normal(70, 1), random.integers(0, 2, (70, 1)))
    yield logits("logits, ties", single(random.integers(-2, 3, (70, 1))), random.integers(0, 2, (70, 1)))
    yield logits("logits of several columns", normal(30, 4), random.integers(0, 2, (30, 4)))
    yield logits("logits, a column without any", normal(20, 3), random.integers(0, 2, (20, 3)) * [1, 0, 1])
    yield logits("logits, none there", normal(7, 1), np.zeros((7, 1)))
    yield logits("logits, one row", normal(1, 1), np.ones((1, 1)))
    yield logits("logits, far apart", single(random.choice([-3e38, -80, 0, 40, 3e38], size=(20, 2)), 40),
                 random.integers(0, 2, (20, 2)))
    yield logits("logits, shares as targets", normal(40, 1), single(random.random((40, 1)), 2))
    yield values("values", normal(50, 1), normal(50, 1))
    yield values("values, several", normal(20, 3), normal(20, 3))
    yield values("values, some 0", normal(12, 1), single(random.integers(0, 2, (12, 1))))
    yield values("values, all equal", np.full((6, 1), 1.5), np.full((6, 1), 1.5))
    yield values("values, extreme", [[3e38], [-3e38], [1e-38]], [[-3e38], [3e38], [1.0]])
    yield quantiles("quantiles", normal(25, 2, 3), normal(25, 2), [0.1, 0.5, 0.9])
    yield rankings("rankings", normal(20, 6), single(random.integers(0, 4, (20, 6))))
    yield rankings("rankings, ties", single(random.integers(0, 3, (20, 6))), single(random.integers(0, 3, (20, 6))))
    yield rankings("rankings, nothing relevant", normal(3, 4), np.zeros((3, 4)))
    yield rankings("rankings, some rows without", normal(4, 4), [[0, 0, 0, 0], [1, 0, 0, 0], [0, 0, 0, 0], [1, 2, 3, 1]])
    yield rankings("rankings, below 0", normal(4, 3), normal(4, 3))
    users = random.integers(0, 9, 60)
    yield groups("groups", normal(60, 1)[:, 0], random.integers(1, 6, 60), users)
    yield groups("groups, ties", single(random.integers(0, 3, 60)), random.integers(0, 6, 60), users)
    yield groups("groups, one row each", normal(5, 1)[:, 0], np.array([0, 1, 5, 0, 4]), np.arange(5))
    yield groups("groups, nothing relevant", normal(5, 1)[:, 0], np.zeros(5), np.array([0, 0, 1, 1, 1]))


cases = list(record())
with open(sys.argv[1], "w") as file:
    file.write("[\n" + ",\n".join(json.dumps(case) for case in cases) + "\n]\n")
print(len(cases), "cases,", sum(len(case["metrics"]) for case in cases), "values")
