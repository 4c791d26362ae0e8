"""How many proxy runs are needed, and by which regressor: RegMix's published runs, predicted from fewer of them.

Regressors are fitted to random subsets of 512 runs of 1M-parameter proxies (17 shares, loss on Pile-CC) and ranked by
Spearman on 256 other mixtures trained at 60M parameters. The peer is LightGBM with its default leaf size, RegMix's own
kind of predictor, stopped early on a fifth of its training rows. "chosen" is what nested cross-validation picks among
ours, trees included up to 128 runs, where they take seconds; "log_linear" is Olmix's law.

Then a mixture is learned from all 512 runs in each way, and judged at 60M by a Gaussian process that was fitted to the
256 runs there and has seen none of the 512.

Run it:  python -m benchmarks.regmix FOLDER_OF_REGMIX_CSVS [number of subsets]
"""

import importlib.metadata
import sys
import time
from pathlib import Path

import numpy as np
import polars as pl

from benchmarks.filters import machine
from mixtures.learned_shares import REGRESSORS, LearnSettings, learn_shares
from mixtures.log_linear_mixture import learn_log_linear
from mixtures.mixing_laws import LogLinear
from mixtures.regmix import SEARCH, MixtureDesign, mixture_space
from mixtures.share_regression import GaussianProcess, one_blas_thread
from mixtures.share_runs import RunTable, run_table
from mixtures.share_selection import collapsed, select_regressor, spearman
from mixtures.share_trees import TreeBag, lightgbm_module

SIZES = (16, 32, 64, 128, 256, 512)
TREES_UP_TO = 128
TARGET = "metric/the_pile_pile_cc_val_loss"


def main() -> None:
    """Measure and print; fail if the chosen regressor misses .94 at 64 runs, .97 from 256 on, or is a constant.

    Fail also if the learned mixture is not predicted to beat all 512 at 60M.
    """
    folder, subsets = Path(sys.argv[1]), int(sys.argv[2]) if len(sys.argv) > 2 else 5
    train, test = read(folder, "train", "1m"), read(folder, "test", "60m")
    versions = ", ".join(f"{name} {importlib.metadata.version(name)}" for name in ("numpy", "lightgbm"))
    print(f"RegMix, Pile-CC: Spearman on {len(test.losses)} mixtures at 60M, mean and sd over {subsets} subsets")
    print(f"{machine()}, {versions}; (n) marks n constant fits")
    columns = ("peer", *REGRESSORS, "log_linear", "chosen")
    print(f"{'runs':>4} " + "".join(f"{name:>20}" for name in columns))
    failed = False
    with one_blas_thread():
        for size in SIZES:
            started = time.perf_counter()
            rows = [ranks(subset(train, size, seed), test) for seed in range(subsets if size < 512 else 1)]
            means = {name: np.mean([row[name] for row in rows if not np.isnan(row[name])] or [0.0]) for name in columns}
            print(f"{size:>4} " + "".join(shown([row[name] for row in rows]) for name in columns), end="")
            print(f"   {(time.perf_counter() - started) / len(rows):.1f} s a subset", flush=True)
            floor = 0.97 if size >= 256 else 0.94 if size >= 64 else 0.0
            failed |= bool(means["chosen"] < floor or any(np.isnan(row["chosen"]) for row in rows if size >= 32))
        failed |= not mixtures_beat_the_best(folder, train, test)
    if failed:
        sys.exit("the chosen regressor is below its floor or constant, or the learned mixture does not beat the 512")


def read(folder: Path, part: str, scale: str) -> RunTable:
    """Mixtures and Pile-CC losses of one scale, joined by index, each row divided by its sum."""
    mixtures, losses = (pl.read_csv(folder / f"{part}_{what}_{scale}.csv") for what in ("mixture", "pile_loss"))
    joined = mixtures.join(losses, on="index", validate="1:1")
    names = [name for name in mixtures.columns if name != "index"]
    return run_table([f"m{i:03d}" for i in joined["index"]], joined.select(names).to_numpy(), joined[TARGET].to_numpy())


def subset(table: RunTable, size: int, seed: int) -> RunTable:
    """`size` random runs."""
    rows = np.random.default_rng(seed).permutation(len(table.losses))[:size]
    return run_table([table.run_ids[i] for i in rows], table.shares[rows], table.losses[rows])


def ranks(train: RunTable, test: RunTable) -> dict[str, float]:
    """Spearman of each regressor's predictions; NaN for a constant fit."""
    ours = [one for one in REGRESSORS.values() if len(train.losses) <= TREES_UP_TO or not isinstance(one, TreeBag)]
    fits = {one.name: one.fit(train.shares, train.losses).predict(test.shares) for one in REGRESSORS.values()}
    fits["peer"] = peer(train, test)
    fits["log_linear"] = LogLinear().fit(train.shares, train.losses).predict(test.shares)
    folds = 5
    fits["chosen"] = select_regressor(train, ours, folds, 0).fitted.predict(test.shares)
    return {
        name: float("nan") if collapsed(predicted, test.losses) else spearman(predicted, test.losses)
        for name, predicted in fits.items()
    }


def mixtures_beat_the_best(folder: Path, train: RunTable, test: RunTable) -> bool:
    """Print learned mixtures beside the best of the 512 by predicted loss at 60M; whether RegMix's beats them all."""
    judge = GaussianProcess().fit(test.shares, test.losses)
    names = [name for name in pl.read_csv(folder / "train_mixture_1m.csv").columns if name != "index"]
    prior = train.shares.mean(axis=0) ** 2  # the design's centre is the square root of the natural mixture
    space = mixture_space(prior / prior.sum(), MixtureDesign(), np.ones(len(names)))
    closed = LearnSettings(regressors=("ridge", "ridge_sqrt", "gaussian_process"), search=SEARCH, resamples=20)
    learned = {"regmix": np.array(list(learn_shares(names, train, closed, space).by_name().values()))}
    for kl in (0.05, 0.01, 0.0):
        solved = learn_log_linear(names, {TARGET: train}, space, kl=kl, settings=closed).solved
        learned[f"log_linear, kl {kl:g}"] = solved.shares
    own = judge.predict(train.shares)
    print("\nloss at 60M as a Gaussian process over the 256 runs there predicts it, of mixtures learned from the 512")
    cc = next(i for i, name in enumerate(names) if name.endswith("pile_cc"))
    for name, shares in learned.items():
        loss = judge.predict(shares[None])[0]
        print(f"{name:<28}{loss:.4f}   effective sources {1 / (shares**2).sum():.1f}, Pile-CC {shares[cc]:.0%}")
    print(f"{'best of the 512 by its loss':<28}{own[np.argmin(train.losses)]:.4f}")
    print(f"{'lowest predicted of the 512':<28}{own.min():.4f}")
    print(f"{'natural mixture':<28}{judge.predict(space.baseline[None])[0]:.4f}")
    print(f"{'best measured of the 256':<28}{test.losses.min():.4f}")
    return bool(judge.predict(learned["regmix"][None])[0] < min(own.min(), test.losses.min()))


def peer(train: RunTable, test: RunTable) -> np.ndarray:
    """LightGBM, leaf size 20 as it comes, learning rate .01, at most 1,000 trees, patience 20."""
    lightgbm = lightgbm_module()
    apart = np.random.default_rng(0).permutation(len(train.losses)) % 5 == 0
    data = lightgbm.Dataset(train.shares[~apart], train.losses[~apart])
    stop = lightgbm.Dataset(train.shares[apart], train.losses[apart], reference=data)
    settings = {"learning_rate": 0.01, "num_threads": 1, "deterministic": True, "verbosity": -1, "seed": 0}
    stopping = lightgbm.early_stopping(20, verbose=False)
    return lightgbm.train(settings, data, 1000, valid_sets=[stop], callbacks=[stopping]).predict(test.shares)


def shown(values: list[float]) -> str:
    """Mean and standard deviation, and how many fits were constant."""
    numbers = [value for value in values if not np.isnan(value)]
    constant = f" ({len(values) - len(numbers)})" if len(numbers) < len(values) else ""
    return f"{f'{np.mean(numbers):.3f} ±{np.std(numbers):.3f}{constant}' if numbers else f'constant{constant}':>20}"


if __name__ == "__main__":
    main()
