"""How fast a run goes and how long it still takes: tokens a second, model FLOPs utilisation, memory, time to the end.

These are for people and for events.jsonl. Nothing of it decides anything, and none of it is in metrics.jsonl, which two
equal runs share.
"""

import resource
import sys
import time
from collections import deque
from dataclasses import dataclass

import torch

PEAK_FLOPS = {
    "H100": 989e12,
    "H200": 989e12,
    "H800": 989e12,
    "A100": 312e12,
    "A800": 312e12,
    "L40S": 362e12,
    "B200": 2250e12,
}
"""Dense bfloat16 FLOPs a second by the vendors' data sheets, without sparsity; by a part of the device's name."""
WINDOW = 20  # steps that a rate is taken over


@dataclass(frozen=True)
class Progress:
    """Where a run is, after a step.

    Attributes:
        step, steps: taken, and in all; tokens: trained on so far, over all ranks.
        loss: of the step, in nats a token; rate: its learning rate.
        tokens_per_s: over the last steps, all ranks together; seconds_left: at that rate.
        mfu: share of the devices' peak that the model's FLOPs need; None where the peak is not known.
        memory: bytes; a GPU's largest allocation, else the process's largest size.
    """

    step: int
    steps: int
    tokens: int
    loss: float
    rate: float
    tokens_per_s: float
    seconds_left: float
    mfu: float | None
    memory: int


class Meter:
    """Measures a run by the clock, over its last steps."""

    def __init__(
        self, steps: int, step_tokens: int, flops_per_token: float, device: torch.device, devices: int
    ) -> None:
        """Begin; the first step measured is slower where something is compiled, and leaves the window soon."""
        self._steps, self._step_tokens, self._flops, self._device = steps, step_tokens, flops_per_token, device
        peak = peak_flops(device)
        self._peak = None if peak is None else peak * devices
        self._times: deque[float] = deque([time.monotonic()], maxlen=WINDOW + 1)

    def after(self, step: int, loss: float, rate: float) -> Progress:
        """Count a step and say where the run is."""
        self._times.append(time.monotonic())
        seconds = (self._times[-1] - self._times[0]) / (len(self._times) - 1)
        speed = self._step_tokens / max(seconds, 1e-9)
        return Progress(
            step=step,
            steps=self._steps,
            tokens=step * self._step_tokens,
            loss=loss,
            rate=rate,
            tokens_per_s=speed,
            seconds_left=seconds * (self._steps - step),
            mfu=None if self._peak is None else speed * self._flops / self._peak,
            memory=memory(self._device),
        )


def peak_flops(device: torch.device) -> float | None:
    """A GPU's dense bfloat16 FLOPs a second, by its name; None for a CPU or a GPU that is not in the table."""
    if device.type != "cuda":
        return None
    name = torch.cuda.get_device_name(device)
    return next((peak for part, peak in PEAK_FLOPS.items() if part in name), None)


def memory(device: torch.device) -> int:
    """Bytes: the largest allocation on a GPU so far, or the largest size of this process."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device)
    size = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return size if sys.platform == "darwin" else size * 1024
