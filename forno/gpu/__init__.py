"""The GPU floor: the driver's ABI and the silicon's facts. So far it knows one kind of machine: one without a GPU."""
from .absent import answers, device_count, device_name
