"""The engine's random numbers, for what a trajectory can't do without: Philox4x32-10 (Salmon et al. 2011)."""

import numpy

# What numbers are for: `Purpose` in `philox.rs`.
MASK_TRAIN, MASK_TEST, SAMPLE = 7, 8, 9


def block(index, row, seed, purpose, site, step):
    """The four words at `(index, row)`, arrays that broadcast."""
    index, row = numpy.broadcast_arrays(numpy.uint64(index), numpy.uint64(row))
    high = [step & 0xFFFFFFFF, purpose << 24 | site << 8 | step >> 32 & 0xFF]
    words = [index, row, *(numpy.full_like(index, word) for word in high)]
    key, mask = [seed & 0xFFFFFFFF, seed >> 32], numpy.uint64(0xFFFFFFFF)
    for _ in range(10):
        first, second = words[0] * numpy.uint64(0xD2511F53), words[2] * numpy.uint64(0xCD9E8D57)
        upper, lower = (lambda x: x >> numpy.uint64(32)), (lambda x: x & mask)
        words = [
            upper(second) ^ words[1] ^ numpy.uint64(key[0]), lower(second),
            upper(first) ^ words[3] ^ numpy.uint64(key[1]), lower(first),
        ]
        key = [(key[0] + 0x9E3779B9) & 0xFFFFFFFF, (key[1] + 0xBB67AE85) & 0xFFFFFFFF]
    return words


def normals(rows, columns, first_row, seed, site, step):
    """What `sample` draws for rows of a batch from `first_row` on: standard normal numbers (Box & Muller 1958)."""
    index, row = numpy.arange((columns + 1) // 2)[None], first_row + numpy.arange(rows)[:, None]
    words = block(index, row, seed, SAMPLE, site, step)
    pairs = [numpy.sqrt(-2 * numpy.log((a + 1.0) / 2**32)) * numpy.cos(numpy.pi * b / 2**31)
             for a, b in ((words[1].astype(float), words[0]), (words[3].astype(float), words[2]))]
    return numpy.stack(pairs, -1).reshape(rows, -1)[:, :columns].astype("float32")


def hide(x, vocabulary, share, seed, rows, step=None):
    """Hides tokens as the masked encoder does. `rows` are the rows' places in the batch of a step, or their ids.

    Gives what the model sees, and the classes: -100 where there is nothing to predict.
    """
    purpose, time = (MASK_TEST, 0) if step is None else (MASK_TRAIN, step)
    words = block(numpy.arange(x.shape[1])[None], numpy.asarray(rows)[:, None], seed, purpose, 0, time)
    chosen = words[0] < int(numpy.float32(share).astype(float) * 2**32)
    lonely = ~chosen.any(1)
    chosen[lonely, words[0].argmin(1)[lonely]] = True
    other = (words[2] * numpy.uint64(vocabulary) >> numpy.uint64(32)).astype("int64")
    instead = numpy.where(words[1] < 3435973836, vocabulary, numpy.where(words[1] < 3865470566, other, x))
    return numpy.where(chosen, instead, x), numpy.where(chosen, x, -100)
