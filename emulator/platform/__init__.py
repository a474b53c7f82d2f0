"""The rules, a room per noun: services over the world that take and return dataclasses and raise named errors."""
