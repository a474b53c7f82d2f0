"""llama.cpp's and mlx-lm's converters on folders of the zoo; `tox -e converters` installs them."""
