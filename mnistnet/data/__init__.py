"""Datasets and pictures: what the network learns from and what it is asked about."""

from mnistnet.data.dataset import DIGITS, Dataset, Splits, load_folder
from mnistnet.data.idx import read_idx, write_idx
from mnistnet.data.pictures import Picture, read_picture

__all__ = [
    "DIGITS",
    "Dataset",
    "Picture",
    "Splits",
    "load_folder",
    "read_idx",
    "read_picture",
    "write_idx",
]
