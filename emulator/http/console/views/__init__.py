"""One module per page: plain dataclasses of what it shows, built from the platform without a word of HTML."""
