"""Layers, each with its forward map, its derivation and its backward map on one screen. Read `layer.py` first."""

from scratchgen.layers.activations import LeakyReLU, ReLU, Sigmoid, Tanh
from scratchgen.layers.augment import RandomCutout, RandomFlip, RandomShift
from scratchgen.layers.batchnorm import BatchNorm
from scratchgen.layers.conv import Conv2d, ConvTranspose2d
from scratchgen.layers.dense import Dense
from scratchgen.layers.dropout import Dropout
from scratchgen.layers.layer import Layer
from scratchgen.layers.layernorm import LayerNorm
from scratchgen.layers.module import Module
from scratchgen.layers.parameter import Parameter, frozen
from scratchgen.layers.pooling import AvgPool2d, MaxPool2d
from scratchgen.layers.random import Random
from scratchgen.layers.sequential import Sequential
from scratchgen.layers.shape import Flatten, Reshape

__all__ = [
    "AvgPool2d",
    "BatchNorm",
    "Conv2d",
    "ConvTranspose2d",
    "Dense",
    "Dropout",
    "Flatten",
    "Layer",
    "LayerNorm",
    "LeakyReLU",
    "MaxPool2d",
    "Module",
    "Parameter",
    "Random",
    "RandomCutout",
    "RandomFlip",
    "RandomShift",
    "ReLU",
    "Reshape",
    "Sequential",
    "Sigmoid",
    "Tanh",
    "frozen",
]
