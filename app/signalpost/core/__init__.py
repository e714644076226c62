"""The pure core: no clock, no chance, no environment, no I/O; they arrive as arguments."""
