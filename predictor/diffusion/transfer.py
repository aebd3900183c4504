"""Small tensors of the host on their way to the device. It doesn't know what they are for."""

import torch


def to_device(host: torch.Tensor, device: torch.device) -> torch.Tensor:
    """The same tensor on a device, without the host waiting for what the device is still at.

    CUDA copies pinned memory by itself; before any other is copied, all that was asked for must be done.
    """
    if device.type != "cuda":
        return host.to(device)
    pinned = torch.empty_like(host, pin_memory=True).copy_(host)
    return pinned.to(device, non_blocking=True)
