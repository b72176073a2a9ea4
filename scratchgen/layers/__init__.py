"""Layers, each with its forward map, its derivation and its backward map on one screen. Read `layer.py` first."""

from scratchgen.layers.activations import LeakyReLU, ReLU, Sigmoid, Tanh
from scratchgen.layers.batchnorm import BatchNorm
from scratchgen.layers.conv import Conv2d, ConvTranspose2d
from scratchgen.layers.dense import Dense
from scratchgen.layers.layer import Layer
from scratchgen.layers.module import Module
from scratchgen.layers.parameter import Parameter, frozen
from scratchgen.layers.sequential import Sequential
from scratchgen.layers.shape import Flatten, Reshape

__all__ = [
    "BatchNorm",
    "Conv2d",
    "ConvTranspose2d",
    "Dense",
    "Flatten",
    "Layer",
    "LeakyReLU",
    "Module",
    "Parameter",
    "ReLU",
    "Reshape",
    "Sequential",
    "Sigmoid",
    "Tanh",
    "frozen",
]
