"""State machines of Hypothesis that drive the emulator with the vendor's SDK and compare it with a dict."""
