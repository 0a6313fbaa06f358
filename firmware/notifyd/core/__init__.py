"""The pure core: decides, never does. No I/O, no clock, no randomness of its own, no third-party I/O library."""
