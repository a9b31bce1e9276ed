"""Side by side with peers, in one run: each bench prints rates and a ratio, and asserts nothing."""
