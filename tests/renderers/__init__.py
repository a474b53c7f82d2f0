"""The renderers of tinker-cookbook on the families' tokenizers; `tox -e renderers-new` installs the cookbook."""
