"""Why an answer is no mind map."""

from typing import Literal

Fault = Literal["yaml", "shape", "name", "range", "start", "gap", "overlap", "end"]


class MapFault(Exception):
    """An answer that is no valid mind map: `fault` names the rule it breaks, `detail` what was found."""

    def __init__(self, fault: Fault, detail: str) -> None:
        super().__init__(f"{fault}: {detail}")
        self.fault, self.detail = fault, detail
