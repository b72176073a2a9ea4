"""The benchmark: how long one training step takes, beside PyTorch's on the same machine at the same time.

settings.py                             the five steps in numbers, the same for both sides
steps.py, opponent.py, ceilings.py      ours, PyTorch's, and what the machine can do; on a CPU or an NVIDIA GPU
worker.py, children.py                  each side in a process of its own, and the pipe to it
rounds.py, compare.py, scaling.py       turns taken in rounds, so that drift hits all alike; the figures; their growth
count.py, memory.py, machine.py         arithmetic counted, memory read, the machine named
profile.py, kernels.py, launches.py     where a step's time goes; on a GPU by kernel; how many it launches
printed.py, picture.py                  what is printed and drawn
results.py, verified.py                 the file that says what was found on which GPU

On a GPU a step is only queued: a turn is timed as a whole, from an idle GPU to an idle GPU.
"""
