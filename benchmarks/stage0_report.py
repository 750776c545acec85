"""Tables and figure of stage 0, from the numbers of `benchmarks/stage0.py`."""

from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fastrl import machine
from fastrl.report import t_interval

DECIDING = "settled/"
MSE, CORR = "mse_undiscounted", "corr_undiscounted"
RIVALS = {
    "variance-gamma": ("yoked-gamma", "shuffled-gamma", "negated-gamma", "matched-gamma"),
    "variance-lambda": ("yoked-lambda", "shuffled-lambda", "negated-lambda", "matched-lambda"),
    "variance-lambda-ensemble": (
        *("yoked-ensemble", "shuffled-ensemble", "negated-ensemble", "matched-ensemble"),
        "constant-ensemble",
    ),
    "variance-horizon-lite": ("yoked-lite",),
}
"""Controls of each treatment."""
TREATMENTS = (
    *("variance-gamma", "variance-gamma-td", "variance-gamma-ev", "variance-lambda"),
    *("variance-lambda-ensemble", "variance-horizon", "variance-horizon-lite"),
    *("stream-time", "stream-lag"),
)
FIXED = ("gae", "best-mse", "best-corr", "best-suite", "gae-1-1", "gae-limit-is-end")

Interval = tuple[float, float, float]
"""Mean, and the ends of its 95 % interval."""


def interval(values: NDArray[np.float64]) -> Interval:
    low, high = t_interval(values)
    assert low is not None
    assert high is not None
    return float(values.mean()), low, high


def against(arms: dict[str, Any], arm: str, rival: str, key: str) -> Interval:
    """Paired over seeds: log ratio of errors, difference of anything else."""
    mine, theirs = (np.array(arms[x][DECIDING + key]) for x in (arm, rival))
    if key.startswith("mse"):
        return interval(np.log(mine / theirs))
    return interval(mine - theirs)


def verdict(found: Interval, *, less_is_better: bool) -> int:
    """1 better, -1 worse, 0 not clear."""
    _, low, high = found
    sign = (low > 0.0) - (high < 0.0)
    return -sign if less_is_better else sign


def count_verdicts(evaluation: dict[str, Any], arm: str, rival: str, key: str) -> str:
    """Tasks on which the arm is better and worse, and whether the claim rule is met."""
    verdicts = [
        verdict(against(arms, arm, rival, key), less_is_better=key.startswith("mse"))
        for arms in evaluation.values()
        if arm in arms and rival in arms
    ]
    better, worse = verdicts.count(1), verdicts.count(-1)
    claim = "**better**" if better > len(verdicts) / 2 and not worse else "no"
    if worse > len(verdicts) / 2 and not better:
        claim = "worse"
    return f"{better} / {worse} of {len(verdicts)}: {claim}"


def write_report(results: dict[str, Any], stem: Path) -> str:
    """Writes `stem`.md and `stem`.png; returns what it wrote."""
    markdown = stem.with_name(stem.name + ".md")
    picture = stem.with_name(stem.name + ".png")
    draw(results, picture)
    markdown.write_text("\n".join(lines_of(results, picture.name)) + "\n", encoding="utf-8")
    return f"{markdown}\n{picture}"


def lines_of(results: dict[str, Any], picture: str) -> list[str]:
    evaluation, learning = results["evaluation"], results["learning"]
    tasks = list(evaluation)
    lines = ["# Learned discount, stage 0: exact tables", "", *machine.describe(results["origin"])]
    lines += [
        f"- {results['seeds']} seeds; {results['origin']['seconds']} s in all",
        "- expectations and claim rules, written first: `learned_discount_stage0_expectations.md`",
        "",
        f"![stage 0]({picture})",
        "",
    ]
    lines += ["## Does gamma track the delay?", "", *tracking_lines(evaluation)]
    lines += ["", "## Advantage error of a frozen policy, undiscounted objective, settled", ""]
    lines += [
        "MSE relative to `gae` in the same seed, geometric mean and 95 % interval; `gae` itself in"
        " units of reward squared. Below 1 is better.",
        "",
        *compared(evaluation, tasks, MSE),
        "",
        "Correlation with the exact advantage minus that of `gae` in the same seed; `gae` itself as"
        " it is. Above 0 is better.",
        "",
        *compared(evaluation, tasks, CORR),
        "",
        "## The same for the objective discounted with gamma0 = 0.99",
        "",
        "MSE relative to `gae`:",
        "",
        *compared(evaluation, tasks, "mse_gamma0"),
        "",
        "Correlation minus that of `gae`:",
        "",
        *compared(evaluation, tasks, "corr_gamma0"),
        "",
        "## Sign of the advantage at decisions (undiscounted), share that agrees",
        "",
        *plain(evaluation, tasks, "sign_undiscounted"),
        "",
        "## Bias^2 and variance of the error (undiscounted), settled",
        "",
        *bias_lines(evaluation, tasks),
        "",
        "## Claim rules",
        "",
        "Tasks on which the arm is better / worse than the rival, and what the rule makes of it.",
        "",
        *claim_lines(evaluation),
        "",
        "## Best fixed pairs, chosen on other seeds (gamma/lambda)",
        "",
        "| task | least MSE | most correlation | one for all tasks |",
        "|---|---|---|---|",
        *(f"| {t} | {' | '.join(results['best'][t].values())} |" for t in results["best"]),
        "",
        "## Learning: probability of the second action (noisy path; good branch of `payoff`)",
        "",
        *learned_lines(learning, "final"),
        "",
        "Exact undiscounted return of the policy learned:",
        "",
        *learned_lines(learning, "value"),
    ]
    return lines


def shown(found: Interval, digits: int = 2) -> str:
    mean, low, high = found
    return f"{mean:.{digits}f} [{low:.{digits}f}, {high:.{digits}f}]"


def header(names: list[str]) -> list[str]:
    return ["| arm | " + " | ".join(names) + " |", "|---|" + "---|" * len(names)]


def order_of(evaluation: dict[str, Any]) -> list[str]:
    """Arms, each treatment followed by its controls."""
    order: list[str] = list(FIXED)
    for arm in TREATMENTS:
        order += [arm, *RIVALS.get(arm, ())]
    present = {arm for arms in evaluation.values() for arm in arms}
    return [arm for arm in order if arm in present]


def compared(evaluation: dict[str, Any], tasks: list[str], key: str) -> list[str]:
    lines = header(tasks)
    for arm in order_of(evaluation):
        cells = []
        for task in tasks:
            arms = evaluation[task]
            if arm not in arms:
                cells.append("-")
            elif arm == "gae":
                cells.append(shown(interval(np.array(arms[arm][DECIDING + key])), 3))
            else:
                found = against(arms, arm, "gae", key)
                if key.startswith("mse"):
                    found = tuple(float(np.exp(x)) for x in found)
                mark = verdict(against(arms, arm, "gae", key), less_is_better=key[:3] == "mse")
                text = shown(found, 3)
                cells.append(f"**{text}**" if mark > 0 else f"*{text}*" if mark < 0 else text)
        lines.append(f"| {arm} | " + " | ".join(cells) + " |")
    return [*lines, "", "Bold: better than `gae`, italic: worse, by the interval."]


def plain(evaluation: dict[str, Any], tasks: list[str], key: str) -> list[str]:
    lines = header(tasks)
    for arm in order_of(evaluation):
        cells = [
            shown(interval(np.array(evaluation[t][arm][DECIDING + key])))
            if arm in evaluation[t]
            else "-"
            for t in tasks
        ]
        lines.append(f"| {arm} | " + " | ".join(cells) + " |")
    return lines


def bias_lines(evaluation: dict[str, Any], tasks: list[str]) -> list[str]:
    lines = header(tasks)
    for arm in order_of(evaluation):
        cells = []
        for task in tasks:
            if arm not in evaluation[task]:
                cells.append("-")
                continue
            found = evaluation[task][arm]
            bias, variance = (
                float(np.mean(found[f"{DECIDING}{x}_undiscounted"])) for x in ("bias2", "variance")
            )
            cells.append(f"{bias:.3g} + {variance:.3g}")
        lines.append(f"| {arm} | " + " | ".join(cells) + " |")
    return lines


TRACKED = {
    "variance-horizon-lite": "gamma_mean",
    "variance-gamma": "gamma_mean",
    "variance-gamma-td": "gamma_mean",
    "variance-gamma-ev": "gamma_mean",
    "stream-time": "gamma_mean",
    "variance-horizon": "effective_horizon",
    "stream-lag": "effective_horizon",
}


def horizon_of(arms: dict[str, Any], arm: str) -> NDArray[np.float64]:
    """Per seed, in steps: 1 / (1 - mean gamma), or the sum of the weights of lags."""
    key = TRACKED[arm]
    values = np.array(arms[arm][DECIDING + key])
    return 1.0 / (1.0 - values) if key == "gamma_mean" else values


def tracking_lines(evaluation: dict[str, Any]) -> list[str]:
    chains = [t for t in ("chain-4", "chain-16", "chain-64") if t in evaluation]
    lines = [
        "Horizon in steps, settled: 1 / (1 - mean gamma), or the sum of the lags' weights.",
        "",
        "| arm | " + " | ".join(chains) + " | tracks | of the delay's size |",
        "|---|" + "---|" * (len(chains) + 2),
    ]
    for arm in TRACKED:
        if any(arm not in evaluation[t] for t in chains):
            continue
        found = [interval(horizon_of(evaluation[t], arm)) for t in chains]
        rises = len(found) == 3 and all(a[2] < b[1] for a, b in pairwise(found))
        delays = [int(t.split("-")[1]) for t in chains]
        sized = all(d / 2 <= x[0] <= 2 * d for d, x in zip(delays, found, strict=True))
        cells = [shown(x, 1) for x in found]
        lines.append(
            f"| {arm} | {' | '.join(cells)} | {'yes' if rises else 'no'} |"
            f" {'yes' if sized else 'no'} |"
        )
    return lines


def claim_lines(evaluation: dict[str, Any]) -> list[str]:
    lines = ["| arm | rival | correlation | MSE |", "|---|---|---|---|"]
    present = order_of(evaluation)
    for arm in TREATMENTS:
        for rival in ("gae", "best-corr", "best-mse", "best-suite", *RIVALS.get(arm, ())):
            if arm in present and rival in present:
                cells = [count_verdicts(evaluation, arm, rival, key) for key in (CORR, MSE)]
                lines.append(f"| {arm} | {rival} | {cells[0]} | {cells[1]} |")
    return lines


def learned_lines(learning: dict[str, Any], key: str) -> list[str]:
    lines = header(list(learning))
    for arm in order_of(learning):
        cells = [
            shown(interval(np.array(arms[arm][key]))) if arm in arms else "-"
            for arms in learning.values()
        ]
        lines.append(f"| {arm} | " + " | ".join(cells) + " |")
    return lines


def draw(results: dict[str, Any], path: Path) -> None:
    import matplotlib as mpl

    mpl.use("Agg")
    import matplotlib.pyplot as plt

    evaluation, learning = results["evaluation"], results["learning"]
    figure, axes = plt.subplots(2, 2, figsize=(17, 17), width_ratios=(1.25, 1))
    for axis, key, title in (
        (axes[0, 0], MSE, "Error of the advantage: MSE / MSE of gae (below 1 is better)"),
        (axes[1, 0], CORR, "Correlation with the exact advantage, minus gae's (above 0 is better)"),
    ):
        heat_map(figure, axis, evaluation, key, title)
    tracking_plot(axes[0, 1], evaluation)
    noisy_plot(axes[1, 1], learning)
    figure.suptitle(
        "Learned discount, stage 0: exact advantages of the undiscounted objective,"
        f" {results['seeds']} seeds; * = 95 % interval of the paired difference excludes gae",
        fontsize=13,
    )
    figure.tight_layout(rect=(0, 0, 1, 0.98))
    figure.savefig(path, dpi=80)
    plt.close(figure)


def heat_map(figure: Any, axis: Any, evaluation: dict[str, Any], key: str, title: str) -> None:
    arms = [arm for arm in order_of(evaluation) if arm != "gae"]
    tasks = list(evaluation)
    grid = np.full((len(arms), len(tasks)), np.nan)
    for i, arm in enumerate(arms):
        for j, task in enumerate(tasks):
            if arm not in evaluation[task]:
                continue
            found = against(evaluation[task], arm, "gae", key)
            is_mse = key.startswith("mse")
            grid[i, j] = -found[0] if is_mse else found[0]
            text = f"{np.exp(found[0]):.2f}" if is_mse else f"{found[0]:+.3f}"
            text += "*" * (verdict(found, less_is_better=is_mse) != 0)
            axis.text(j, i, text, ha="center", va="center", fontsize=9)
    limit = 1.0 if key.startswith("mse") else 0.15
    axis.imshow(grid, cmap="RdYlGn", vmin=-limit, vmax=limit, aspect="auto", alpha=0.8)
    axis.set_xticks(range(len(tasks)), tasks, rotation=20, ha="right")
    axis.set_yticks(range(len(arms)), arms)
    for label, arm in zip(axis.get_yticklabels(), arms, strict=True):
        label.set_fontweight("bold" if arm in TREATMENTS else "normal")
    axis.set_title(title)


def tracking_plot(axis: Any, evaluation: dict[str, Any]) -> None:
    chains = [t for t in ("chain-4", "chain-16", "chain-64") if t in evaluation]
    delays = np.array([int(t.split("-")[1]) for t in chains])
    for i, arm in enumerate(TRACKED):
        if any(arm not in evaluation[t] for t in chains):
            continue
        found = np.array([interval(horizon_of(evaluation[t], arm)) for t in chains])
        spread = np.abs(found[:, 1:] - found[:, :1]).T
        axis.errorbar(
            delays * (1 + 0.03 * (i - 3)),
            found[:, 0],
            yerr=spread,
            marker="o",
            capsize=4,
            label=arm,
        )
    axis.plot(delays, delays, "k--", label="the delay itself")
    axis.set(xscale="log", yscale="log", xlabel="delay D, steps", ylabel="horizon, steps")
    axis.set_xticks(delays, [str(x) for x in delays])
    axis.minorticks_off()
    axis.set_title("Does the learned horizon follow the delay? (chain-D, settled)")
    axis.grid(alpha=0.3)
    axis.legend(fontsize=10)


def noisy_plot(axis: Any, learning: dict[str, Any]) -> None:
    corridors = [t for t in learning if t.startswith("corridor")]
    arms = [a for a in order_of({t: learning[t] for t in corridors})][::-1]
    for j, task in enumerate(corridors):
        for i, arm in enumerate(arms):
            mean, low, high = interval(np.array(learning[task][arm]["final"]))
            axis.errorbar(
                mean,
                i + 0.22 * (1 - j),
                xerr=[[mean - low], [high - mean]],
                fmt="os^"[j],
                ms=6,
                capsize=3,
                color=f"C{j}",
                label=task if i == 0 else None,
            )
    axis.axvline(0.5, color="k", ls="--")
    axis.set_yticks(range(len(arms)), arms)
    for label, arm in zip(axis.get_yticklabels(), arms, strict=True):
        label.set_fontweight("bold" if arm in TREATMENTS else "normal")
    axis.set(xlim=(-0.08, 1.08), xlabel="probability of the noisy path after learning")
    axis.set_title("Is the agent drawn to noise? (mean and 95 % interval)")
    axis.grid(alpha=0.3)
    axis.legend(loc="lower center", bbox_to_anchor=(0.5, -0.13), ncols=3, fontsize=10)
