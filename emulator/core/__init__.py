"""Holds what everything else stands on: kinds, names, errors, clock, ids, states that change; standard library only."""
