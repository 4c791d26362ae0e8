"""What a recipe may name as an input: the readers, told apart by their `kind`.

Each kind is one file in this folder; what they share (finding files, limits, batches) is in `reader.py`.
"""

from pipelines.stages.readers.hf import HfInput
from pipelines.stages.readers.html import HtmlInput
from pipelines.stages.readers.jsonl import JsonlInput
from pipelines.stages.readers.parquet import ParquetInput
from pipelines.stages.readers.warc import WarcInput
from pipelines.stages.readers.wet import WetInput

InputConfig = WarcInput | WetInput | HtmlInput | JsonlInput | ParquetInput | HfInput
