"""Kinds of caches and of their layers: those of transformers, where it is in use, and those of stand-ins."""

import sys
from typing import Any

from ftsim.compute.standins.cache import Cache, CacheLayer


def is_usual(cache: Any) -> bool:
    """Tell whether a cache holds keys and values alone, in a way that is known, which needs no measuring."""
    known = type(cache) is Cache or type(cache) in _kinds("DynamicCache")
    return known and all(is_growing(layer) for layer in cache.layers)


def is_growing(layer: Any) -> bool:
    """Tell whether a layer holds the keys and values of all positions, or of those in a window."""
    return type(layer) is CacheLayer or type(layer) in _kinds("DynamicLayer", "DynamicSlidingWindowLayer")


def is_mergeable(layer: Any) -> bool:
    """Tell whether two layers of this kind can be made one; a batch with any other kind of layer has one row.

    `DummyLayer` is for layers without states; older releases of transformers have no such layer.
    """
    others = _kinds("LinearAttentionLayer", "LinearAttentionAndFullAttentionLayer", "DummyLayer")
    return is_growing(layer) or type(layer) in others


def _kinds(*names: str) -> list[type]:
    """Classes of transformers; none while nobody has imported it, since no cache can be of them then."""
    module = sys.modules.get("transformers.cache_utils")
    return [found for name in names if (found := getattr(module, name, None)) is not None]
