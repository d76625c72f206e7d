"""torchvision's names: datasets and transforms, inside forno, so that no second package has to match."""
from . import datasets, transforms

__all__ = ["datasets", "transforms"]
