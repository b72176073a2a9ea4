"""The benchmark: how long one training step takes, beside PyTorch's on the same machine at the same time.

settings.py                          the five steps in numbers, the same for both sides
steps.py, opponent.py, sgemm.py      ours, PyTorch's, and the matrix product that says what the machine can do
worker.py, children.py               each side in a process of its own, and the pipe to it
rounds.py, compare.py                turns taken in rounds, so that drift hits all alike; the figures
count.py, memory.py, machine.py      arithmetic counted, memory read, the machine named
profile.py, scaling.py               where a step's time goes; how it grows
gpu/                                 the same on an NVIDIA GPU, and what was found there; verified.py reads that
table.py, picture.py                 what is printed and drawn
"""
