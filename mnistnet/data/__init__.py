"""Datasets and pictures: what the network learns from and what it is asked about."""

from mnistnet.data.dataset import DIGITS, Dataset, Splits
from mnistnet.data.idx import read_idx, write_idx
from mnistnet.data.pictures import Picture, read_digits, read_picture
from mnistnet.data.sources import load_data

__all__ = [
    "DIGITS",
    "Dataset",
    "Picture",
    "Splits",
    "load_data",
    "read_digits",
    "read_idx",
    "read_picture",
    "write_idx",
]
