"""Datasets with torchvision's interface. Digits comes with forno and needs no download."""
from .digits import Digits

__all__ = ["Digits"]
