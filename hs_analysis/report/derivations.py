"""How each kind of number is made, in words: method, formula and references, as data."""

from __future__ import annotations

from dataclasses import dataclass

from hs_analysis.policy.constants import SAME_HOURS, SAME_MODELLED_HOURS
from hs_analysis.report.driver_words import CAPTION

HETEROSCALE = "HeteroScale, arXiv:2508.19559"
BOOTSTRAP = "Künsch 1989, the block bootstrap, doi:10.1214/aos/1176347265"
ISOTONIC = "Barlow et al. 1972, Statistical Inference under Order Restrictions (isotonic regression)"
OPERATIONAL = "Denning and Buzen 1978, operational laws, doi:10.1145/356733.356735"


@dataclass(frozen=True)
class Derivation:
    """What stands behind one kind of number.

    Attributes
    ----------
    title
        What it is; ``{name}`` is filled with what the link names.
    method, formula
        In words, and as arithmetic.
    table
        Detail table that holds the rows it was made from; empty when there is none.
    refs
        Publications.
    notes
        What else to know of it.
    """

    title: str
    method: str
    formula: str
    table: str
    refs: tuple[str, ...]
    notes: tuple[str, ...] = ()


DERIVATIONS: dict[str, Derivation] = {
    "signals": Derivation(
        "verdict on {name}",
        "The signal is compared with the load of its role, window by window. Elasticity is the slope of its "
        "logarithm on the logarithm of load, through medians of load bins in the operating range; noise and "
        "drift are what a monotone fit on load leaves over; the lag is read off both series after their own "
        "memory is taken away. Intervals come from a bootstrap of blocks, so that neighbouring windows do "
        "not count twice. The verdict is the rule applied to these numbers; its reasons name the limits.",
        "elasticity = Δ ln(signal) ÷ Δ ln(load);  SNR = (q95 − q05 of the fit) ÷ noise about the fit",
        "study_points",
        (f"{HETEROSCALE}, Fig. 2", BOOTSTRAP, ISOTONIC),
    ),
    "capacity": Derivation(
        "capacity of {name}",
        "Each window is judged by the share of its samples over the latency limit, and set against the work "
        "per ready instance (5-minute means). Capacity is the work at which the share of violating windows "
        "reaches what the objective allows; where the limit was never met it is the highest work that "
        "instances already carried. The interval joins a block bootstrap and a systematic term. Realised "
        "coverage counts later days that agree with the interval fitted on all before them: no more windows "
        "over the limit just below it than if the capacity were its lower end, no fewer just above it than "
        "if it were its upper end.",
        "",  # by the law that was used, see CAPACITY_FORMULAS
        "capacity_points",
        (BOOTSTRAP, OPERATIONAL),
    ),
    "thresholds": Derivation(
        "target of {name}",
        "The target is head-room times the lower end of capacity, or the floor under the floor rule; where "
        "the load grows by more within a start-up time than the head-room leaves free (growth_ratio of the "
        "capacity), 1 ÷ that growth is the head-room, times carried_ratio, by which loads above a floor were "
        "carried inside the SLO, if that is less. For a signal other than served tokens it is what a "
        "monotone fit of that signal on load reads at this work. Growth follows the newest minute, shrinking "
        "the highest minute of the last five. The dead band is as wide as the noise of these two readings "
        "needs, plus one instance of rounding on the way in. Selection may set another: policy.yaml has it.",
        "target = head-room × capacity;  out when wanted ÷ current > 1 + θ_out, in when < 1 − θ_in;  "
        "θ = z × noise ÷ mean, with z for the false crossings allowed a day",
        "capacity_points",
        (f"{HETEROSCALE}, proportional control",),
    ),
    "startup": Derivation(
        "start-up time of {name}",
        "Every instance that came inside the window counts from when it was asked for (the creation of its "
        "pod, else the rise of the wanted replicas that no earlier instance answered, else the first scrape "
        "that found its target without an answer, else the start of its process) to the first sample in "
        "which a counter of its work rose. The number is the median; its interval is that of a "
        "median from order statistics. The request itself came within the scrape interval before its sample, "
        "so half of it is taken off. An instance that came while nothing was recorded is "
        "left out. Where nothing says when instances were asked for, the time from first sample to first "
        "request is a lower bound and is not used.",
        "start-up time = median(first request − asked)",
        "",
        ("David and Nagaraja 2003, Order Statistics, section 7.1",),
    ),
    "gpu_speeds": Derivation(
        "speed of {name}",
        "How much faster an instance of one GPU type of a pool is than one of the most numerous type: by "
        "their own capacities where all are known, else by profiles of all of them at the service's mean "
        "request, else by the work they serve while they hold equally many requests (running and waiting, "
        "5-minute means), the mean over queue lengths that both held, else (not for prefill) by a benchmark "
        "of them near that request. One pod counts its speed ÷ the mean "
        "speed of the pods recorded; targets and ratio are those of a pod that counts 1.",
        "weight = speed ÷ (Σ pods × speed ÷ Σ pods);  equivalents = Σ weight × pods;  "
        "P ÷ D in pods = ratio × weight of a decode pod ÷ weight of a prefill pod",
        "",
        (BOOTSTRAP, ISOTONIC),
    ),
    "pd_ratio": Derivation(
        "P/D ratio",
        "The work that requests bring to prefill and to decode, over windows in which neither pool is "
        "saturated, divided by what an instance of each pool can carry; where a capacity is only a floor, "
        "by what an instance of each is to carry. Where the mix moves, a band is given. Where it moves or a "
        "capacity is a floor, a signal that has to size both pools holds what the 95 % quantile of the "
        "hourly mix needs, a bound and not the ratio. A test of splits has priority: its best split of each "
        "token mix is the ratio. "
        "Where the recorded counts moved apart and a backlog held each pool back for a while, what an "
        "instance of each served then gives the ratio again, without a limit on latency: a cross-check.",
        "P ÷ D = (Σ prefill work ÷ Σ decode work) × (capacity of decode ÷ capacity of prefill);  "
        "bound = q95 of the hourly mix × (target of decode ÷ target of prefill)",
        "mix",
        (f"{HETEROSCALE}, Fig. 4", BOOTSTRAP),
    ),
    "sweeps": Derivation(
        "ratio test {name}",
        "Splits of prefill and decode under the same token mix and load, each by what it served times the "
        "share inside the limits; those that surely fail one are out. Splits within 3 % of the best are "
        "named with it; the best ratio of all lies between the nearest splits on either side that serve "
        "less. Which role holds a split back is read from where its backlog sits in the loaded part of the "
        "step.",
        "served = min(α · P, β · D);  balance = β ÷ α, with α of splits that prefill holds back and β of "
        "those that decode does",
        "",
        (f"{HETEROSCALE}, Fig. 4",),
    ),
    "demand": Derivation(
        "demand",
        "Offered work of each role: started requests times the work a request brings, counted near the "
        "window. The number is the 95 % quantile of 5-minute means. In saturated windows served work hides "
        "the demand, so they are listed.",
        "offered work = started requests per second × mean tokens of a request",
        "mix",
        (OPERATIONAL,),
    ),
    "selection": Derivation(
        "score of the candidate {name}",
        "A candidate is a set of signals and the settings of the controller that will run them. Each is "
        "simulated by that controller's own rules on the training window, with targets fitted there: "
        "undisturbed, under faults and under bursts. A candidate is feasible when it keeps the share of "
        "violating windows that the objective allows, and faults and bursts break the objective no more "
        "often than with a default HPA on the same targets. Of the feasible ones the one that saves most "
        "wins, one that follows other signals than counted tokens only by "
        f"{100 * SAME_MODELLED_HOURS:.0f} % of the hours. Within {100 * SAME_HOURS:g} % of the fewest hours "
        "the safest wins: the fewest violations undisturbed, under faults and under bursts. "
        "Of those as safe one that counts waiting work wins, then the calmest: the fewest actions.",
        "score = 1 − hours of the candidate ÷ hours recorded",
        "",
        (f"{HETEROSCALE}, Algorithm 1",),
    ),
    "replay": Derivation(
        "backtest of {name}",
        "The policy runs step by step over the test window, on the recorded demand, with numbers fitted on "
        "the training window only. The selected one is replayed as the object that its controller would run: "
        "written by the exporter and read back. It sees what was already scraped, instances count from the "
        "moment they are asked for, work that finds no room waits. Hours and actions can be trusted; shares "
        "of windows near the limit are estimates, and the calibration says how good.",
        "instance-hours = Σ instances × step;  saving = 1 − hours of the policy ÷ hours of the baseline",
        "timeline",
        (f"{HETEROSCALE}, Algorithm 1",),
    ),
    "drivers": Derivation(
        "{name} as a driver",
        "The signal drives its pool over the test window, whether or not the study qualifies it; the other "
        "pool follows its own work. The target is what the signal reads on the training window where an "
        "instance carries the derived target, at most the head-room share of the highest load on record. "
        "Dead band, cooldowns and steps are the same for all drivers, and there are no guards.",
        "dip ÷ peak = mean instances in the tenth of rows of lowest hourly load ÷ in that of the highest",
        "",
        (f"{HETEROSCALE}, Fig. 6",),
        (CAPTION,),
    ),
    "policy": Derivation(
        "the policy",
        "The candidate that the selection chose, with targets, dead bands, cooldowns and ratio fitted again "
        "on the whole window. Every number of it has a link of its own.",
        "decode = ⌈total ÷ target⌉, prefill = ⌈decode × ratio⌉; with two signals each pool by its own",
        "",
        (f"{HETEROSCALE}, Algorithm 1",),
    ),
}

# Beginning of the method that a capacity names → its formula.
CAPACITY_FORMULAS = {
    "logistic": "P(window violates | x) = 1 ÷ (1 + e^−(a + b · ln x)); "
    "capacity = x where P is the allowed share of windows",
    "quantile law": "probit(95 % quantile of the share over the limit | x) = a + b · ln x; "
    "capacity = x where the quantile is the allowed share of samples",
    "bracket": "capacity = geometric mean of the lowest load of an onset and the highest clean load",
    "load levels": "capacity = x where a monotone fit of the share over the limit crosses what is allowed",
    "highest load carried within the limit, lowered": "floor = lowest load at which the windows don't show "
    "that the limit held, less a systematic error; capacity is at least that",
    "highest load carried": "floor = q99 of work per instance in windows that held the limit; "
    "capacity is at least that",
}
