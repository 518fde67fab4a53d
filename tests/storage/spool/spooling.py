"""Numbered entries, and all that a reader finds of them."""

import json


def entry(n, size=0):
    return b'{"n":%d,"pad":"%b"}' % (n, b"x" * size)


def numbers(batch):
    return [json.loads(it)["n"] for it in batch.entries]


def take_all(reader, limit=10, *, remove=True):
    """Every entry there is, and all damage."""
    found, damaged = [], []
    for name in reader.files():
        position, finished = 0, False
        while not finished:
            batch = reader.read(name, position, limit)
            found += numbers(batch)
            damaged += batch.damaged
            if batch.position == position and not batch.finished:
                break
            position, finished = batch.position, batch.finished
        if finished and remove:
            reader.remove(name)
    return found, damaged
