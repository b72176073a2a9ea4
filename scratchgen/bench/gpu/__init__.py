"""The benchmark on an NVIDIA GPU. A step is only queued there, so turns are timed as a whole: `worker.GPUWorker`.

steps.py, opponent.py, ceilings.py   ours, PyTorch's, and what the GPU itself can do: a product, a copy
device.py                            the GPU in words, and waiting for it
launches.py, kernels.py              what a step launches; how long each kernel of ours takes, by its bytes
printed.py                           these as lines of text
results.py                           the file that says what was found on which GPU, with which kernels
"""
