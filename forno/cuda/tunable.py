"""torch.cuda.tunable: which of a library's products is the fastest. forno has one for each case, so nothing is tuned: what is set is kept, and there are no results."""
from __future__ import annotations

__all__ = ["enable", "get_filename", "get_max_tuning_duration", "get_max_tuning_iterations", "get_results", "get_rotating_buffer_size", "get_validators", "is_enabled",
           "mgpu_tune_gemm_in_file", "read_file", "record_untuned_enable", "record_untuned_is_enabled", "set_filename", "set_max_tuning_duration",
           "set_max_tuning_iterations", "set_numerical_check_tolerances", "set_rotating_buffer_size", "tune_gemm_in_file", "tuning_enable", "tuning_is_enabled"]
_kept = {"enabled": False, "tuning": True, "untuned": False, "duration": 30, "iterations": 100, "filename": "tunableop_results0.csv", "buffer": -1}


def enable(val: bool = True): _kept["enabled"] = bool(val)
def is_enabled() -> bool: return _kept["enabled"]
def tuning_enable(val: bool = True): _kept["tuning"] = bool(val)
def tuning_is_enabled() -> bool: return _kept["tuning"]
def record_untuned_enable(val: bool = True): _kept["untuned"] = bool(val)
def record_untuned_is_enabled() -> bool: return _kept["untuned"]
def set_max_tuning_duration(duration: int): _kept["duration"] = int(duration)
def get_max_tuning_duration() -> int: return _kept["duration"]
def set_max_tuning_iterations(iterations: int): _kept["iterations"] = int(iterations)
def get_max_tuning_iterations() -> int: return _kept["iterations"]
def get_filename() -> str: return _kept["filename"]
def get_results() -> tuple: return ()
def get_validators() -> tuple: return ()
def set_rotating_buffer_size(buffer_size: int): _kept["buffer"] = int(buffer_size)
def get_rotating_buffer_size() -> int: return _kept["buffer"]
def set_numerical_check_tolerances(enable: bool, atol: float = 1e-5, rtol: float = 1e-5): """Nothing is compared."""
def read_file(filename=None) -> bool: return False
def tune_gemm_in_file(filename: str): """There is nothing to choose among."""
def mgpu_tune_gemm_in_file(filename_pattern: str, num_gpus: int): """There is nothing to choose among."""


def set_filename(filename: str, insert_device_ordinal: bool = False):
    """The name of a file of results; a device's number may come before its ending."""
    stem, dot, ending = filename.rpartition(".")
    _kept["filename"] = f"{stem}0{dot}{ending}" if insert_device_ordinal and dot else f"{filename}0" if insert_device_ordinal else filename
