"""The client side: training recipes and what they share, written against the vendor's SDK alone.

Programs import it as `training`. Nothing here knows whether an emulator or the real service answers.
"""
