"""Processes: the emulator as a server on a state folder, how others find it there, a program run beside it."""
