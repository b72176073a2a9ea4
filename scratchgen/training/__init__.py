"""Training: the loop, what it watches, checkpoints, and the folder in which a run leaves what it made."""

from scratchgen.training.checkpoint import load_checkpoint, save_checkpoint
from scratchgen.training.loop import Settings, StepTooLarge, Stopped, Trainable, Training, steps_per_epoch
from scratchgen.training.run_folder import OutOfStep, RunFolder, epoch_of, save_picture
from scratchgen.training.stop import StopRequest, stop_request
from scratchgen.training.watch import Means, NotFinite, Watch

__all__ = [
    "Means",
    "NotFinite",
    "OutOfStep",
    "RunFolder",
    "Settings",
    "StepTooLarge",
    "StopRequest",
    "Stopped",
    "Trainable",
    "Training",
    "Watch",
    "epoch_of",
    "load_checkpoint",
    "save_checkpoint",
    "save_picture",
    "steps_per_epoch",
    "stop_request",
]
