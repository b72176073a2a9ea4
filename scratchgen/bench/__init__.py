"""The benchmark: how long one training step takes, beside PyTorch's and JAX's on the same machine at the same time.

settings.py                             the sizes of the five steps, the same for all sides
steps.py, opponent.py, ceilings.py      ours, PyTorch's, and what the machine can do; on a CPU or an NVIDIA GPU
opponent_jax.py                         JAX's, on a CPU
worker.py, children.py                  each side in a process of its own, the pipe to it, turns taken in rounds
compare.py, scaling.py, startup.py      the figures, their growth, and how long it takes until they hold
count.py, machine.py                    arithmetic counted; the machine named, memory read
profile.py, kernels.py, launches.py     where a step's time goes; on a GPU by kernel; how many it launches
printed.py, picture.py                  what is printed and drawn
results.py, verified.py                 the file that says what was found on which GPU

On a GPU a step is only queued: a turn is timed as a whole, from an idle GPU to an idle GPU.
"""
