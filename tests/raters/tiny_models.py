"""Tiny random models in Hugging Face folders, a workspace that rates with them, and real pages to rate."""

import json
from functools import lru_cache
from pathlib import Path

import pyarrow as pa
import torch
import transformers
from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers

from corpus.artifacts import begin, describe_part, finish
from corpus.documents import documents
from corpus.shards import write_table
from pipelines.build import Workshop
from pipelines.inputs import InputChecksums
from pipelines.rating import Rating, RatingDesk
from pipelines.runtime import LocalRuntime

PAGES = Path(__file__).parents[2] / "pipelines" / "demo" / "pages.jsonl"
SIZE = 300
torch.set_num_threads(1)  # more of them would wait for each other on a busy machine
SMALL = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4, "intermediate_size": 48,
         "initializer_range": 0.3, "vocab_size": SIZE}  # fmt: skip


@lru_cache
def pages() -> tuple[str, ...]:
    """Openings of real pages, from a line to some thousands of characters."""
    rows = [json.loads(line)["text"] for line in PAGES.read_text(encoding="utf-8").splitlines()]
    return tuple(text[: 40 + 97 * (i % 23)] for i, text in enumerate(rows[:24]))


def save_tokenizer(folder: Path, family: str, size: int = SIZE) -> None:
    """WordPiece with [CLS] and [SEP] for an encoder, byte-level BPE with <s> and </s> for a decoder; trained here."""
    if family in ("bert", "modernbert"):
        named = {"unk_token": "[UNK]", "cls_token": "[CLS]", "sep_token": "[SEP]", "pad_token": "[PAD]"}
        tokenizer = Tokenizer(models.WordPiece(unk_token="[UNK]"))
        tokenizer.normalizer = normalizers.BertNormalizer()
        tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
        trainer = trainers.WordPieceTrainer(vocab_size=size, special_tokens=list(named.values()), show_progress=False)
    else:
        named = {"bos_token": "<s>", "eos_token": "</s>"}
        tokenizer = Tokenizer(models.BPE())
        tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
        tokenizer.decoder = decoders.ByteLevel()
        trainer = trainers.BpeTrainer(
            vocab_size=size, special_tokens=list(named.values()), show_progress=False,
            initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        )  # fmt: skip
    tokenizer.train_from_iterator(pages()[:20], trainer)
    if "cls_token" in named:
        marks = [(token, tokenizer.token_to_id(token)) for token in ("[CLS]", "[SEP]")]
        tokenizer.post_processor = processors.TemplateProcessing("[CLS] $A [SEP]", special_tokens=marks)
    else:
        mark = [("<s>", tokenizer.token_to_id("<s>"))]
        tokenizer.post_processor = processors.TemplateProcessing("<s> $A", special_tokens=mark)
    transformers.PreTrainedTokenizerFast(tokenizer_object=tokenizer, **named).save_pretrained(folder)


def config_of(family: str, **changed) -> transformers.PreTrainedConfig:
    positions = 512 if family in ("bert", "modernbert") else 1024
    given = {**SMALL, "max_position_embeddings": positions, **changed}
    if family == "bert":
        return transformers.BertConfig(**given, pad_token_id=3)
    if family == "modernbert":
        return transformers.ModernBertConfig(**given, pad_token_id=3, local_attention=16, global_attn_every_n_layers=2)
    if family == "gemma2":
        return transformers.Gemma2Config(**given, num_key_value_heads=2, head_dim=8, final_logit_softcapping=5.0,
                                         pad_token_id=None, sliding_window=16)  # fmt: skip
    return transformers.LlamaConfig(**given, num_key_value_heads=2, pad_token_id=None, bos_token_id=0, eos_token_id=1)


def save_model(folder: Path, kind: str, family: str, seed: int = 1, **changed) -> Path:
    """A model of random weights, with a tokenizer that fits it. `kind` is a transformers Auto class."""
    torch.manual_seed(seed)
    model = getattr(transformers, kind).from_config(config_of(family, **changed))
    model.save_pretrained(folder)
    save_tokenizer(folder, family)
    return folder


def classifier(folder: Path, family: str = "bert", labels: int = 6, **changed) -> Path:
    return save_model(folder, "AutoModelForSequenceClassification", family, num_labels=labels, **changed)


def plain(folder: Path, kind: str):
    """The folder as transformers itself reads it: tokenizer and model."""
    tokenizer = transformers.AutoTokenizer.from_pretrained(folder, split_special_tokens=True)
    return tokenizer, getattr(transformers, kind).from_pretrained(folder, dtype=torch.float32).eval()


def desk(root: Path, name: str = "quality", texts=("a document",)) -> RatingDesk:
    """What a rater called `name` may ask for, over a workspace at `root` that rates these documents."""
    folder = root / "filtered"
    begin(folder, "f")
    rows = [{"id": f"{i:05d}", "text": text, "source": "t"} for i, text in enumerate(texts)]
    half = max(1, len(rows) // 2)
    for shard, part in (("a", rows[:half]), ("b", rows[half:])):
        if part:
            write_table(folder / f"{shard}.parquet", documents(part))
    parts = [describe_part(folder, path) for path in sorted(folder.glob("*.parquet"))]
    made = finish(
        folder, kind="documents", name="filtered", fingerprint="f", config={}, inputs=[], parts=parts, totals={}
    )
    rating = Rating(Workshop(root, LocalRuntime(1)), root, InputChecksums(root))
    return RatingDesk(rating, name, made)


def rate(rater, texts) -> pa.RecordBatch:
    return rater.rate(pa.record_batch({"text": pa.array(texts, pa.string())}))
