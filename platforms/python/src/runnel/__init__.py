"""Runnel: runs language models and other streaming models on the device.

    model = runnel.Model("gemma.rnl")
    with runnel.Session(model) as session:
        for piece in session.generate("Rivers are", max_tokens=64):
            print(piece, end="", flush=True)

Options and errors are those of the C interface, runnel.h. README.md beside the package's source shows all of it at work.
"""

from __future__ import annotations

import atexit
from typing import Callable

from . import _native, graph
from ._abi import (
    Backend,
    BackendInfo,
    BudgetExceeded,
    Busy,
    Cancelled,
    ChatResult,
    ContextFull,
    DeviceLost,
    DType,
    Error,
    InputOutput,
    Internal,
    InvalidArgument,
    InvalidModel,
    Memory,
    ModelInfo,
    NonFinite,
    NotFound,
    OutOfMemory,
    Pooling,
    Program,
    Role,
    RollbackRange,
    StateInfo,
    StateKind,
    StateMismatch,
    Stats,
    Status,
    Symbol,
    SymbolKind,
    Unsupported,
    Value,
)
from .answer import Answer, Token
from .convert import Conversion, ConversionFailed, convert
from .model import Engine, Grammar, Model
from .session import Saved, Session, State, saved

__version__ = _native.version()
format_version = _native.format_version()


def set_log(function: Callable[[int, str], object] | None) -> None:
    """Receives notices, such as work-arounds that were chosen: function(level, message), level 0 info, 1 warning. None:
    silent again."""
    _native.set_log(function)


def vulkan_devices() -> list[str]:
    """A line for each Vulkan device, usable or not. Unsupported: built without Vulkan; NotFound: the machine has no
    driver."""
    return _native.vulkan_devices()


atexit.register(set_log, None)

__all__ = [
    "Answer",
    "Backend",
    "BackendInfo",
    "BudgetExceeded",
    "Busy",
    "Cancelled",
    "ChatResult",
    "ContextFull",
    "Conversion",
    "ConversionFailed",
    "DType",
    "DeviceLost",
    "Engine",
    "Error",
    "Grammar",
    "InputOutput",
    "Internal",
    "InvalidArgument",
    "InvalidModel",
    "Memory",
    "Model",
    "ModelInfo",
    "NonFinite",
    "NotFound",
    "OutOfMemory",
    "Pooling",
    "Program",
    "Role",
    "RollbackRange",
    "Saved",
    "Session",
    "State",
    "StateInfo",
    "StateKind",
    "StateMismatch",
    "Stats",
    "Status",
    "Symbol",
    "SymbolKind",
    "Token",
    "Unsupported",
    "Value",
    "convert",
    "format_version",
    "graph",
    "saved",
    "set_log",
    "vulkan_devices",
]

# In messages and pickles things are called as one writes them.
for _name in __all__:
    if isinstance(_thing := globals()[_name], type):
        _thing.__module__ = "runnel"
