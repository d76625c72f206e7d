"""The CPU as a device: its instruction set, memory, compiled code, threads and launches. Knows addresses and words, nothing of what they mean."""
