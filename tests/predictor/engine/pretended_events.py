"""CUDA events of a pretended GPU, whose time a test moves."""


class Device:
    """Computes in order what it is asked for: `asked` seconds in all, `done` of them by now."""

    def __init__(self) -> None:
        self.asked = 0.0
        self.done = 0.0

    def event(self, *, enable_timing: bool) -> "Event":
        """In the place of torch.cuda.Event."""
        assert enable_timing
        return Event(self)


class Event:
    """Behind all that was asked for when it was recorded."""

    def __init__(self, device: Device) -> None:
        self._device = device
        self._at = 0.0

    def record(self) -> None:
        """Now."""
        self._at = self._device.asked

    def query(self) -> bool:
        """Whether the device has come to it."""
        return self._device.done >= self._at

    def elapsed_time(self, end: "Event") -> float:
        """Milliseconds."""
        return 1000 * (end._at - self._at)
