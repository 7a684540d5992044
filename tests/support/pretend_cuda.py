"""A pretend CUDA device: tensors that say ``cuda:0``, compute on the CPU and refuse what a real device refuses.

Every tensor of the pretend device is a CPU tensor of the class :class:`PretendTensor`. A torch function mode sees each
call: tensors of different devices in one call, ``.numpy()`` of a device tensor and a CPU generator for device noise
are refused as CUDA refuses them; what waits for the device (``.item()``, ``.cpu()``, ``nonzero``, the truth of a
tensor, a boolean mask as an index) and what is copied between host and device is counted with the line it came from.
"""

from __future__ import annotations

import sys
import traceback
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from functools import partial
from pathlib import Path
from typing import Any
from unittest import mock

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode
from torch.utils._pytree import tree_map

ROOT = Path(__file__).parents[2]
_OURS = ("store", "probe", "analyses", "generators", "ditprobe")

_WAITING = {
    "item", "tolist", "__bool__", "__float__", "__int__", "__index__", "__len__of_values", "nonzero", "argwhere",
    "unique", "_unique2", "unique_consecutive", "unique_dim", "masked_select", "equal", "allclose", "is_nonzero",
    "__repr__", "__format__", "_local_scalar_dense", "isclose_all", "__contains__",
}  # fmt: skip
_METADATA = {
    "size", "dim", "stride", "numel", "is_floating_point", "is_complex", "element_size", "data_ptr", "is_contiguous",
    "storage_offset", "__len__", "ndimension", "nelement", "requires_grad_", "retain_grad", "register_hook",
    "is_pinned", "untyped_storage", "is_inference", "has_names", "is_shared", "is_same_size",
    "_has_compatible_shallow_copy_type", "__set__", "__delete__", "result_type", "can_cast", "_is_view",
    "is_tensor", "__hash__", "__reduce_ex__", "refine_names", "get_device", "_version", "type_as_shape",
}  # fmt: skip


class PretendTensor(Tensor):
    """A CPU tensor that says that it is on a pretend CUDA device."""

    _pretend_index = 0

    @classmethod
    def __torch_function__(cls, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        pretend = _active[-1] if _active else None
        if pretend is None:
            with torch._C.DisableTorchFunctionSubclass():
                return func(*args, **(kwargs or {}))
        return pretend.call(func, args, kwargs or {})

    def record_stream(self, stream: Any) -> None:
        """Nothing to remember: memory is freed when nobody holds it."""

    def __reduce_ex__(self, protocol: Any) -> Any:
        with torch._C.DisableTorchFunction():
            plain = self.as_subclass(Tensor)  # type: ignore[arg-type]
            return plain.__reduce_ex__(protocol)

    def __deepcopy__(self, memo: Any) -> Any:
        copied = _on(self.as_subclass(Tensor).detach().clone(), self._pretend_index)  # type: ignore[arg-type]
        copied.requires_grad_(self.requires_grad)
        copied.__dict__.update(vars(self))
        memo[id(self)] = copied
        return copied


_active: list[PretendCUDA] = []


def _on(tensor: Tensor, index: int) -> PretendTensor:
    with torch._C.DisableTorchFunctionSubclass():
        made = tensor.as_subclass(PretendTensor)  # type: ignore[arg-type]
    made._pretend_index = index
    return made


class _Mode(TorchFunctionMode):
    def __init__(self, pretend: PretendCUDA) -> None:
        super().__init__()
        self.pretend = pretend

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        return self.pretend.call(func, args, kwargs or {})


class PretendCUDA:
    """A context manager in which ``cuda`` devices can be pretended.

    Attributes
    ----------
    waits : Counter of "path:line what"
        What the host waited for, by the line of ours that asked for it (or of the caller where none of ours did).
    copies : Counter of "path:line what"
        Copies between the host and a device.
    """

    def __init__(self, devices: int = 1) -> None:
        self.devices = devices
        self.waits: Counter[str] = Counter()
        self.copies: Counter[str] = Counter()
        self._stack = ExitStack()
        self._in_backward = 0
        self.streams: list[PretendStream] = []

    def __enter__(self) -> PretendCUDA:
        self._stack = ExitStack()
        before = torch.__future__.get_overwrite_module_params_on_conversion()
        torch.__future__.set_overwrite_module_params_on_conversion(True)
        self._stack.callback(torch.__future__.set_overwrite_module_params_on_conversion, before)
        for name, value in {
            "is_available": lambda: True,
            "device_count": lambda: self.devices,
            "current_device": lambda: 0,
            "synchronize": lambda device=None: self._count(self.waits, "torch.cuda.synchronize"),
            "empty_cache": lambda: None,
            "mem_get_info": lambda device=None: (10**11, 10**11),
            "Stream": PretendStream,
            "Event": PretendEvent,
            "current_stream": lambda device=None: self.stream,
            "stream": self._using,
            "is_bf16_supported": lambda *args, **kwargs: True,
        }.items():
            self._stack.enter_context(mock.patch.object(torch.cuda, name, value))
        self._stack.enter_context(mock.patch.object(torch, "load", partial(self._load, torch.load)))
        self._stack.enter_context(_Mode(self))
        self.stream = PretendStream()
        _active.append(self)
        return self

    def __exit__(self, *exception: object) -> None:
        _active.remove(self)
        self._stack.close()

    def _load(self, load: Callable[..., Any], file: Any, map_location: Any = None, **options: Any) -> Any:
        """What a file holds, which the pretend device writes as CPU tensors, on the device that is asked for."""
        device = map_location if isinstance(map_location, str | torch.device) else "cpu"
        with torch._C.DisableTorchFunction():
            found = load(file, map_location="cpu", **options)
        return tree_map(lambda value: value.to(device) if isinstance(value, Tensor) else value, found)

    @contextmanager
    def _using(self, stream: Any) -> Iterator[None]:
        before, self.stream = self.stream, stream
        try:
            yield
        finally:
            self.stream = before

    def reset(self) -> None:
        """Forget what was counted."""
        self.waits.clear()
        self.copies.clear()

    @contextmanager
    def counting(self) -> Iterator[PretendCUDA]:
        """Count from zero in a context."""
        self.reset()
        yield self

    # One call of torch ----------------------------------------------------------------------------------------------

    def call(self, func: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """Make a call of torch as the device would make it."""
        name = _name_of(func)
        if name == "__get__":
            return self._attribute(func, args, kwargs)
        if name in _METADATA:
            with torch._C.DisableTorchFunctionSubclass():
                return func(*args, **kwargs)
        special = _SPECIAL.get(name)
        if special is not None:
            return special(self, func, args, kwargs)
        if name in ("backward", "grad", "run_backward"):
            self._in_backward += 1
            try:
                return self._compute(func, args, kwargs, None)
            finally:
                self._in_backward -= 1
        index = self._common_device(name, func, args, kwargs)
        wanted, args, kwargs = self._taken_device(args, kwargs)
        if wanted is not None:
            if wanted.type == "cuda":
                index = wanted.index or 0
                self._check_generator(name, kwargs, index)
                if name in ("tensor", "as_tensor", "asarray") and not _is_pretend(args[0]):
                    self._count(self.copies, f"{name} to the device")
            else:
                index = None
        elif name in ("new_tensor",):
            self._count(self.copies, f"{name} to the device")
        if index is not None:
            self._check_generator(name, kwargs, index)
            if name in _WAITING:
                self._count(self.waits, name)
            elif name == "where" and len(args) + len(kwargs) == 1:
                self._count(self.waits, "where(condition)")
            elif name == "repeat_interleave" and "output_size" not in kwargs and isinstance(args[-1], Tensor):
                self._count(self.waits, name)
        return self._compute(func, args, kwargs, index)

    def _compute(self, func: Any, args: Any, kwargs: Any, index: int | None) -> Any:
        with torch._C.DisableTorchFunctionSubclass():
            result = func(*args, **kwargs)
        if index is None and not isinstance(result, PretendTensor):
            return result
        if not isinstance(result, Tensor | tuple | list | dict):
            return result
        given = list(_tensors((args, kwargs)))

        def marked(value: Any) -> Any:
            if not isinstance(value, Tensor) or any(value is one for one in given):
                return value
            if index is None:
                return value.as_subclass(Tensor) if type(value) is PretendTensor else value  # type: ignore[arg-type]
            return _on(value, index)

        return marked(result) if isinstance(result, Tensor) else tree_map(marked, result)

    def _attribute(self, func: Any, args: Any, kwargs: Any) -> Any:
        tensor, attribute = args[0], getattr(func.__self__, "__name__", "")
        if _is_pretend(tensor):
            if attribute == "device":
                return torch.device("cuda", tensor._pretend_index)
            if attribute == "is_cuda":
                return True
            if attribute == "is_cpu":
                return False
        with torch._C.DisableTorchFunctionSubclass():
            value = func(*args, **kwargs)
        if isinstance(value, Tensor) and _is_pretend(tensor) and not _is_pretend(value):
            return _on(value, tensor._pretend_index)
        return value

    def _common_device(self, name: str, func: Any, args: Any, kwargs: Any) -> int | None:
        tensors = list(_tensors((args, kwargs)))
        devices = {part._pretend_index for part in tensors if _is_pretend(part)}
        if not devices:
            return None
        if len(devices) > 1:
            raise RuntimeError(
                f"Expected all tensors to be on the same device, but found at least two devices, "
                f"{', '.join(f'cuda:{index}' for index in sorted(devices))}! (in {name})"
            )
        if not self._in_backward:
            strangers = [part for part in tensors if not _is_pretend(part) and part.device.type == "cpu" and part.ndim]
            if strangers:
                raise RuntimeError(
                    f"Expected all tensors to be on the same device, but found at least two devices, "
                    f"cuda:{devices.pop()} and cpu! (in {name})"
                )
        return devices.pop()

    @staticmethod
    def _taken_device(args: Any, kwargs: Any) -> tuple[torch.device | None, Any, Any]:
        """The device argument, and the arguments with the CPU in its place."""
        kwargs = dict(kwargs)
        kwargs.pop("pin_memory", None)
        wanted = kwargs.get("device")
        if wanted is None:
            return None, args, kwargs
        wanted = torch.device("cuda", wanted) if isinstance(wanted, int) else torch.device(wanted)
        if wanted.type == "cuda":
            kwargs["device"] = torch.device("cpu")
        return wanted, args, kwargs

    @staticmethod
    def _check_generator(name: str, kwargs: Any, index: int) -> None:
        generator = kwargs.get("generator")
        if generator is not None and generator.device.type == "cpu":
            raise RuntimeError(f"Expected a 'cuda' device type for generator but found 'cpu' (in {name})")

    # Copies ---------------------------------------------------------------------------------------------------------

    def _call_to(self, func: Any, args: Any, kwargs: Any) -> Any:
        tensor, *rest = args
        kwargs = dict(kwargs)
        wanted: Any = kwargs.pop("device", None)
        left: list[Any] = []
        flags = [value for value in rest if isinstance(value, bool)]
        kwargs |= dict(zip(("non_blocking", "copy"), flags, strict=False))
        for value in rest:
            if isinstance(value, bool):
                continue
            if isinstance(value, Tensor):
                wanted = torch.device("cuda", value._pretend_index) if _is_pretend(value) else value.device
                left.append(value.dtype)
            elif isinstance(value, str | torch.device | int):
                wanted = torch.device("cuda", value) if isinstance(value, int) else torch.device(value)
            elif value is not None:
                left.append(value)
        wanted = None if wanted is None else torch.device(wanted)
        here = tensor._pretend_index if _is_pretend(tensor) else None
        there = here if wanted is None else (wanted.index or 0) if wanted.type == "cuda" else None
        if wanted is not None and wanted.type == "meta":
            with torch._C.DisableTorchFunctionSubclass():
                return func(tensor, wanted, *left, **kwargs)
        moved = here != there
        if moved:
            self._moved(here, there, tensor, not kwargs.get("non_blocking", False))
        with torch._C.DisableTorchFunctionSubclass():
            dtype = kwargs.pop("dtype", left[0] if left else tensor.dtype)
            result = func(tensor, dtype, **kwargs)
            if result is tensor and not moved:
                return tensor
            if moved and result is tensor:
                result = tensor.clone() if not tensor.is_leaf or tensor.requires_grad else tensor.detach().clone()
        if there is None:
            return result.as_subclass(Tensor)
        return _on(result, there)

    def _moved(self, here: int | None, there: int | None, tensor: Tensor, blocking: bool = True) -> None:
        what = f"{'cpu' if here is None else 'cuda'} to {'cpu' if there is None else 'cuda'}"
        self._count(self.copies, what)
        if there is None and blocking:
            self._count(self.waits, what)

    def _call_cpu(self, func: Any, args: Any, kwargs: Any) -> Any:
        return self._call_to(Tensor.to, (args[0], "cpu"), {})

    def _call_cuda(self, func: Any, args: Any, kwargs: Any) -> Any:
        wanted = args[1] if len(args) > 1 else kwargs.get("device", 0)
        return self._call_to(Tensor.to, (args[0], torch.device("cuda", 0) if wanted is None else wanted), {})

    def _call___deepcopy__(self, func: Any, args: Any, kwargs: Any) -> Any:
        """A copy on its own device; what was copied before it, on any device, only comes along."""
        tensor = args[0]
        return self._compute(func, args, kwargs, tensor._pretend_index if _is_pretend(tensor) else None)

    def _call_type(self, func: Any, args: Any, kwargs: Any) -> Any:
        return self._compute(func, args, kwargs, args[0]._pretend_index if _is_pretend(args[0]) else None)

    def _call_copy_(self, func: Any, args: Any, kwargs: Any) -> Any:
        to, source = args[0], args[1]
        here, there = (part._pretend_index if _is_pretend(part) else None for part in (source, to))
        if here != there and not self._in_backward:
            blocking = not kwargs.get("non_blocking", len(args) > 2 and args[2])
            self._moved(here, there, source, blocking)
        with torch._C.DisableTorchFunctionSubclass():
            func(*args, **kwargs)
        return to

    def _call_numpy(self, func: Any, args: Any, kwargs: Any) -> Any:
        if _is_pretend(args[0]):
            raise TypeError(
                "can't convert cuda:0 device type tensor to numpy. Use Tensor.cpu() to copy the tensor to host memory "
                "first."
            )
        with torch._C.DisableTorchFunctionSubclass():
            return func(*args, **kwargs)

    _call___array__ = _call_numpy
    _call_from_numpy = _call_numpy

    # Indices --------------------------------------------------------------------------------------------------------

    def _call___getitem__(self, func: Any, args: Any, kwargs: Any) -> Any:
        tensor, places = args
        index = self._indexed(tensor, places)
        return self._compute(func, args, kwargs, index)

    def _call___setitem__(self, func: Any, args: Any, kwargs: Any) -> Any:
        tensor, places, value = args
        self._indexed(tensor, places)
        if isinstance(value, Tensor) and _is_pretend(value) != _is_pretend(tensor) and not self._in_backward:
            here, there = (part._pretend_index if _is_pretend(part) else None for part in (value, tensor))
            if value.ndim:  # as a copy_ between devices
                self._moved(here, there, value)
        with torch._C.DisableTorchFunctionSubclass():
            return func(*args, **kwargs)

    def _indexed(self, tensor: Any, places: Any) -> int | None:
        listed = places if isinstance(places, tuple) else (places,)
        index = tensor._pretend_index if _is_pretend(tensor) else None
        for place in listed:
            if isinstance(place, Tensor):
                if index is None and _is_pretend(place) and place.ndim:
                    raise RuntimeError("indices should be either on cpu or on the same device as the indexed tensor")
                if index is not None and not _is_pretend(place) and place.ndim and not self._in_backward:
                    self._count(self.copies, "index to the device")
                if index is not None and place.dtype in (torch.bool, torch.uint8) and place.ndim:
                    self._count(self.waits, "boolean index")
                if index is not None and not place.ndim and _is_pretend(place):
                    self._count(self.waits, "index as a number")
            elif isinstance(place, list) and index is not None:
                self._count(self.copies, "list as an index")
            elif isinstance(place, slice):
                for end in (place.start, place.stop, place.step):
                    if _is_pretend(end):
                        self._count(self.waits, "index as a number")
            elif type(place).__module__ == "numpy" and getattr(place, "ndim", 0) and index is not None:
                self._count(self.copies, "numpy array as an index")
        return index

    def _count(self, counter: Counter[str], what: str) -> None:
        counter[f"{_caller()} {what}"] += 1


class PretendStream:
    """Work is done at once, so a stream only remembers that it was waited for."""

    def __init__(self, device: Any = None, **kwargs: Any) -> None:
        self.device = device
        self.waited: list[Any] = []

    def wait_stream(self, other: Any) -> None:
        self.waited.append(other)

    def wait_event(self, event: Any) -> None:
        self.waited.append(event)

    def record_event(self, event: Any = None) -> Any:
        event = event or PretendEvent()
        event.record(self)
        return event

    def synchronize(self) -> None:
        _active[-1]._count(_active[-1].waits, "stream.synchronize")


class PretendEvent:
    """An event that has always happened; asking whether it was recorded and waited for is up to the tests."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        self.recorded = False
        self.synchronised = 0

    def record(self, stream: Any = None) -> None:
        self.recorded = True

    def query(self) -> bool:
        return True

    def synchronize(self) -> None:
        assert self.recorded, "an event was waited for that nobody recorded"
        self.synchronised += 1

    def wait(self, stream: Any = None) -> None:
        self.synchronised += 1


def _is_pretend(value: Any) -> bool:
    return issubclass(type(value), PretendTensor)


def _tensors(values: Any) -> Iterator[Tensor]:
    """Tensors of nested tuples, lists and dicts; torch's own way takes several times as long, at each call."""
    for value in values.values() if isinstance(values, dict) else values:
        if isinstance(value, Tensor):
            yield value
        elif isinstance(value, tuple | list | dict):
            yield from _tensors(value)


_SPECIAL = {name.removeprefix("_call_"): call for name, call in vars(PretendCUDA).items() if name.startswith("_call_")}


def _name_of(func: Callable[..., Any]) -> str:
    try:
        return func.__name__
    except AttributeError:
        return str(func)


def _caller() -> str:
    """The innermost line of ours."""
    frame = sys._getframe(2)
    outside = ""
    while frame is not None:
        path = frame.f_code.co_filename
        if path.startswith(str(ROOT)) and "/.venv/" not in path:
            relative = path[len(str(ROOT)) + 1 :]
            if relative.split("/")[0] in _OURS:
                return f"{relative}:{frame.f_lineno}" + (f" through {outside}" if outside else "")
        elif not outside and "torch" not in path.split("/")[-3:]:
            outside = "/".join(path.split("/")[-2:]) + f":{frame.f_lineno}"
        frame = frame.f_back  # type: ignore[assignment]
    return outside or "?"


def where() -> str:
    """The stack, for whoever looks for a stray device."""
    return "".join(traceback.format_stack(limit=12))
