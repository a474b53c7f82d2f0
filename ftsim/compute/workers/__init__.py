"""Trainers in processes of their own, behind the same protocol as those of the emulator's process."""
