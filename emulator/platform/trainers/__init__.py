"""Trainers, of jobs and of training sessions: who owns them, and the operations they run in order."""
