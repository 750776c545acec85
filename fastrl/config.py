"""What a training run is asked to do: one frozen dataclass, its presets, its JSON form.

Imports neither torch nor the native module, so that `fastrl --help` is instant.
"""

import dataclasses
import json
import math
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from pathlib import Path
from types import MappingProxyType
from typing import Any, Literal, get_args, get_type_hints

Device = Literal["auto", "cpu", "cuda"]
Precision = Literal["fp32", "bf16"]
Policy = Literal["auto", "nature_cnn", "impala_resnet", "minatar_cnn", "mlp", "mlp_small"]
RewardScaling = Literal["none", "clip", "return_std"]
Protocol = Literal["none", "classic", "machado"]
ObsType = Literal["screen", "ram"]
AutoresetMode = Literal["NextStep", "SameStep"]
WandbMode = Literal["online", "offline", "disabled"]
Advantage = Literal[
    "gae",
    "group",
    "variance-gamma",
    "variance-lambda",
    "variance-lambda-ensemble",
    "variance-horizon",
    "variance-horizon-return",
    "variance-horizon-lite",
    "stream-lag",
    "stream-time",
    "explained-lambda",
    "meta-gradient",
]
Control = Literal["none", "head-only", "yoked", "shuffled", "negated"]
VdLoss = Literal["decoupled", "nll", "beta_nll"]
VdSignal = Literal["return", "td"]
VdBase = Literal["geo", "var"]
VdRef = Literal["self", "fixed"]
VdMap = Literal["auto", "odds", "ev", "prec"]
VdNorm = Literal["max", "sum"]
VdSigma = Literal["lag", "state"]


@dataclass(frozen=True, kw_only=True, slots=True)
class TrainConfig:
    """One training run. Make it with `config_for`, which applies the preset of the environment."""

    env_id: str
    """What to play; `fastrl envs` lists the ids."""
    preset: str = "minatar"
    """Name of the preset that the defaults of this run came from; a record, it changes nothing."""
    seed: int = 1
    """Seeds the weights, the actions, the order of minibatches and, hashed, each environment."""
    total_steps: int = 5_000_000
    """Agent steps to train for (not emulator frames); the last rollout is always finished."""
    run_dir: str = ""
    """Folder of the run, which must not exist yet. Empty: runs/<env>/<preset>-s<seed>-<time>."""

    num_envs: int = 128
    """Environments stepped together (N)."""
    num_steps: int = 128
    """Steps of each environment per rollout (T); a batch has T x N steps."""
    env_threads: int = 0
    """Threads of each environment pool; 0 takes the CPUs that this process may use."""
    num_pools: int = 1
    """Pools that share the environments. With two, the environments of one step while the GPU
    decides for the other; divides num_envs."""
    autoreset_mode: AutoresetMode = "SameStep"
    """SameStep wastes no step at an episode's end; NextStep spends one, which is not trained on."""
    protocol: Protocol = "none"
    """ALE only. classic: no sticky actions, a lost life ends the episode, minimal actions, 30
    no-ops (Mnih et al. 2015). machado: sticky 0.25, 18 actions, full games (Machado et al.
    2018)."""
    obs_type: ObsType = "screen"
    """ALE only. ram: an observation is the 128 bytes of the console's memory, and no picture is
    drawn."""
    env_options: Mapping[str, Any] = field(default_factory=dict[str, Any])
    """More options for `fastrl.make`, e.g. sticky_action_prob; they win over the protocol's."""

    policy: Policy = "auto"
    """Network; auto picks by observation: images, 10x10 grids, or vectors."""
    device: Device = "auto"
    """auto takes CUDA when torch sees a GPU."""
    torch_threads: int = 0
    """CPU threads of torch; 0 leaves torch's choice. Resuming is bit-exact with the same number."""
    precision: Precision = "fp32"
    """bf16 computes the network's body in bfloat16; weights, heads, losses and the optimiser stay
    in float32."""
    compile: bool = False
    """Compile the network with torch.compile."""
    cuda_graphs: bool = False
    """Capture inference and the gradient step in CUDA graphs. What cannot be captured runs as
    usual, and a message says why."""

    learning_rate: float = 1e-3
    """Adam step size at the start."""
    anneal_lr: bool = True
    """Lower the rate linearly to 0 over total_steps."""
    adam_eps: float = 1e-5
    """Adam epsilon. Source: CleanRL, openai/baselines."""
    gamma: float = 0.99
    """Discount per agent step, in [0, 1]. Source: Mnih et al. 2015, extended data table 1."""
    gae_lambda: float = 0.95
    """In [0, 1]. Source: Schulman et al. 2017, table 5."""
    advantage: Advantage = "gae"
    """Advantage estimator. group: against other attempts from the same state, without a critic.
    variance-*: a discount, a lambda or a horizon that follows the critic's own confidence, see
    `fastrl.discount`. stream-lag and stream-time fix options of variance-horizon-return and of
    variance-gamma, see `LITERAL`. explained-lambda and meta-gradient adapt one lambda, or one gamma
    and lambda, for all states, see `fastrl.rivals`."""
    group_size: int = 8
    """Environments that attempt the same state (G), with advantage group; divides num_envs."""
    num_minibatches: int = 8
    """Minibatches per epoch."""
    update_epochs: int = 3
    """Passes over each rollout."""
    norm_adv: bool = True
    """Normalise advantages per minibatch to mean 0, standard deviation 1; a group's are already."""
    clip_coef: float = 0.2
    """Clipping range of the probability ratio. Source: Schulman et al. 2017."""
    clip_vloss: bool = False
    """Clip the change of the value as well, by clip_coef."""
    ent_coef: float = 0.01
    """Weight of the entropy bonus."""
    vf_coef: float = 0.5
    """Weight of the value loss."""
    max_grad_norm: float = 0.5
    """Gradients longer than this (L2, all parameters together) are scaled down to it."""
    target_kl: float | None = None
    """Skip the remaining epochs of an update once the approximate KL divergence passes this."""
    kl_ref_coef: float = 0.0
    """Weight of the KL divergence from the frozen policy of kl_ref in the loss; 0 measures it."""
    kl_ref: str = ""
    """Run folder or checkpoint of that reference policy. The run keeps a copy of it."""
    teacher: str = ""
    """Run folder or checkpoint of a policy to act like, instead of PPO: see `fastrl distill`."""
    reward_scaling: RewardScaling = "none"
    """clip: sign of the reward. return_std: divide by the running standard deviation of the
    discounted return, as gymnasium's NormalizeReward."""

    control: Control = "none"
    """What a learned discount is compared with. head-only: its head learns, the advantage is GAE's.
    yoked: every state gets the mean gamma or lambda that `yoked_run` logged in the same update.
    shuffled: confidence is dealt out to states at random. negated: confidence with its sign
    turned."""
    yoked_run: str = ""
    """Folder of the run that control yoked follows."""
    vd_loss: VdLoss = "decoupled"
    """variance-gamma and variance-lambda. decoupled: the critic learns as in PPO, the variance head
    beside it. nll: one Gaussian likelihood trains both, and the body. beta_nll: that, weighted with
    the predicted standard deviation (Seitzer et al. 2022, arXiv:2203.09168, beta 0.5)."""
    vd_signal: VdSignal = "return"
    """Of which error the variance is learned, in variance-gamma and variance-lambda: that of the
    return, or of one step (td)."""
    vd_base: VdBase = "geo"
    """geo: confidence is relative to the batch's geometric mean, so that gamma and lambda keep
    their mean log-odds. var: relative to that of a constant guess."""
    vd_ref: VdRef = "fixed"
    """variance-gamma: whose return the variance is of. fixed: that of gamma, with a mean of its
    own. self: the one discounted as learned."""
    vd_map: VdMap = "auto"
    """From confidence to the weight of the future. odds: tilt the odds of gamma or lambda. ev:
    explained share of the variance. prec: precision beyond a constant guess. auto: odds, or ev for
    variance-horizon*."""
    vd_norm: VdNorm = "max"
    """With vd_map prec: the weights' maximum, or their sum, is 1."""
    vd_eta: float = 0.5
    """variance-gamma: exponent of the relative variance that divides the horizon; 0 is PPO."""
    vd_zeta: float = 0.5
    """variance-lambda: exponent of the relative variance that multiplies the odds of lambda; 0 is
    PPO."""
    vd_beta: float = 1.0
    """Weight of a constant guess in the maps ev and prec."""
    vd_horizon: int = 64
    """variance-horizon*: lags H at which rewards are predicted, at most num_steps."""
    vd_sigma: VdSigma = "lag"
    """variance-horizon and variance-horizon-return. lag: how well a lag is predicted is one running
    mean for all states. state: it is predicted too, for each state."""
    vd_n_step: int = 0
    """variance-horizon and variance-horizon-return: rewards taken as they came before predictions
    take over, the counterpart of lambda; 0 takes all that the rollout holds."""
    vd_lmax: float = 3.0
    """Bound of the relative log variance. 0 makes every state alike: PPO, but in
    variance-lambda-ensemble, where the end of an episode still raises lambda."""
    vd_warmup: int = 20
    """Updates over which confidence gains its full effect."""
    vd_skill_gate: bool = False
    """Confidence has an effect only as far as its head predicts better than a constant."""
    gamma_low: float = 0.8
    """Smallest learned gamma."""
    gamma_high: float = 0.9995
    """Largest learned gamma."""
    lambda_low: float = 0.5
    """Smallest learned lambda."""
    lambda_high: float = 0.995
    """Largest learned lambda."""
    meta_lr: float = 0.01
    """meta-gradient: Adam step size on the log-odds of gamma and lambda; 0 is PPO."""

    checkpoint_every: int = 50
    """Updates between full checkpoints; one more is written at the end."""
    track: bool = False
    """Send metrics to Weights & Biases too."""
    wandb_mode: WandbMode = "online"
    """offline writes the W&B files into the run folder and needs no network."""
    wandb_project: str = "fastrl"
    """W&B project."""
    tensorboard: bool = False
    """Write TensorBoard events into the run folder too."""

    def __post_init__(self) -> None:
        """Checks every field.

        Raises:
            ValueError: A value is outside its range; the message names both.
        """
        for name, literal in _LITERALS.items():
            _require(getattr(self, name) in literal, self, name, f"one of {', '.join(literal)}")
        for name in (
            "total_steps",
            "num_envs",
            "num_pools",
            "num_steps",
            "num_minibatches",
            "update_epochs",
        ):
            _require(_is_int(self, name, 1), self, name, "an integer >= 1")
        divides = self.num_envs % self.num_pools == 0
        _require(divides, self, "num_pools", f"a divisor of num_envs {self.num_envs}")
        for name in ("env_threads", "torch_threads"):
            _require(_is_int(self, name, 0), self, name, "an integer >= 0")
        _require(_is_int(self, "seed", 0, 2**31 - 1), self, "seed", "an integer in [0, 2**31 - 1]")
        _require(_is_int(self, "checkpoint_every", 1), self, "checkpoint_every", "an integer >= 1")
        _require(_is_int(self, "group_size", 2), self, "group_size", "an integer >= 2")
        for name in ("gamma", "gae_lambda"):
            _require(_is_number(self, name, 0.0, 1.0), self, name, "a number in [0, 1]")
        for name in ("learning_rate", "adam_eps", "clip_coef", "max_grad_norm"):
            _require(
                _is_number(self, name, 0.0) and getattr(self, name) > 0, self, name, "a number > 0"
            )
        for name in ("ent_coef", "vf_coef", "kl_ref_coef"):
            _require(_is_number(self, name, 0.0), self, name, "a number >= 0")
        kl_ok = self.target_kl is None or (
            _is_number(self, "target_kl", 0.0) and self.target_kl > 0
        )
        _require(kl_ok, self, "target_kl", "a number > 0, or None")
        for name in (
            "anneal_lr",
            "norm_adv",
            "clip_vloss",
            "compile",
            "cuda_graphs",
            "track",
            "tensorboard",
        ):
            _require(isinstance(getattr(self, name), bool), self, name, "true or false")
        for name in ("env_id", "preset", "run_dir", "wandb_project", "kl_ref", "teacher"):
            _require(isinstance(getattr(self, name), str), self, name, "a string")
        _require(bool(self.env_id), self, "env_id", "an environment id, see `fastrl envs`")
        _require(_is_mapping(self, "env_options"), self, "env_options", "a mapping of options")
        _require(
            self.kl_ref_coef == 0 or bool(self.kl_ref),
            self,
            "kl_ref",
            f"a run folder or a checkpoint with kl_ref_coef {self.kl_ref_coef}",
        )
        _require(
            not (self.teacher and self.kl_ref),
            self,
            "kl_ref",
            "empty with a teacher (a student learns from nothing else)",
        )
        if self.advantage == "group":
            self._check_group()
        _require(
            self.batch_size >= self.num_minibatches,
            self,
            "num_minibatches",
            f"at most num_envs * num_steps = {self.batch_size}",
        )
        _require(
            self.protocol == "none" or self.is_ale,
            self,
            "protocol",
            f"none for {self.env_id} (protocols belong to ALE/ environments)",
        )
        _require(
            self.obs_type == "screen" or self.is_ale,
            self,
            "obs_type",
            f"screen for {self.env_id} (only ALE/ environments have RAM)",
        )
        self._check_discount()

    def _check_discount(self) -> None:
        """What the estimator asks of its options."""
        for name in ("gamma_low", "gamma_high", "lambda_low", "lambda_high"):
            _require(_is_number(self, name, 0.0, 1.0), self, name, "a number in [0, 1]")
        for name in ("vd_beta", "vd_lmax", "meta_lr"):
            _require(_is_number(self, name, 0.0), self, name, "a number >= 0")
        for name in ("vd_eta", "vd_zeta"):
            _require(_is_number(self, name, -math.inf), self, name, "a finite number")
        for name in ("vd_warmup", "vd_n_step"):
            _require(_is_int(self, name, 0), self, name, "an integer >= 0")
        for name, kind, allowed in (
            ("vd_skill_gate", bool, "true or false"),
            ("yoked_run", str, "a string"),
        ):
            _require(isinstance(getattr(self, name), kind), self, name, allowed)
        kind = self.estimator
        with_it = f"with advantage {self.advantage}"
        for name, value in LITERAL.get(self.advantage, {}).items():
            _require(getattr(self, name) == value, self, name, f"{value} {with_it}")
        controls = _CONTROLS.get(kind, ("none",))
        _require(
            self.control in controls, self, "control", f"one of {', '.join(controls)} {with_it}"
        )
        yoked = self.control == "yoked"
        _require(
            bool(self.yoked_run) == yoked,
            self,
            "yoked_run",
            "the folder of a run with control yoked" if yoked else "empty without control yoked",
        )
        maps = _MAPS.get(kind, get_args(VdMap))
        _require(self.vd_map in maps, self, "vd_map", f"one of {', '.join(maps)} {with_it}")
        if self.vd_map == "ev" and kind == "variance-gamma":
            _require(self.vd_base == "var", self, "vd_base", "var with vd_map ev")
            _require(self.control != "negated", self, "control", "another with vd_map ev")
            _require(self.gamma_high < 1.0, self, "gamma_high", "a number < 1 with vd_map ev")
        if kind == "variance-lambda-ensemble":
            _require(self.vd_loss == "decoupled", self, "vd_loss", f"decoupled {with_it}")
            _require(self.gae_lambda < 1.0, self, "gae_lambda", f"a number < 1 {with_it}")
        if self.vd_loss != "decoupled":
            _require(self.vd_signal == "return", self, "vd_signal", f"return with {self.vd_loss}")
        if kind in ("variance-gamma", "variance-horizon-lite", "meta-gradient"):
            _require_between(self, "gamma", "gamma_low", "gamma_high", with_it)
        if kind in ("variance-lambda", "explained-lambda", "meta-gradient"):
            _require_between(self, "gae_lambda", "lambda_low", "lambda_high", with_it)
        if kind == "meta-gradient":
            self._check_meta(with_it)
        if kind not in ("variance-horizon", "variance-horizon-return"):
            _require(self.vd_sigma == "lag", self, "vd_sigma", f"lag {with_it}")
            _require(self.vd_n_step == 0, self, "vd_n_step", f"0 {with_it}")
        lags = self.num_steps if kind.startswith("variance-horizon") else math.inf
        _require(
            _is_int(self, "vd_horizon", 1, lags),
            self,
            "vd_horizon",
            "an integer >= 1" if lags == math.inf else f"an integer in [1, num_steps = {lags}]",
        )

    def _check_meta(self, with_it: str) -> None:
        """Log-odds are finite, and there are environments to teach and to judge."""
        for name in ("gamma_low", "lambda_low"):
            _require(getattr(self, name) > 0.0, self, name, f"a number > 0 {with_it}")
        for name in ("gamma_high", "lambda_high"):
            _require(getattr(self, name) < 1.0, self, name, f"a number < 1 {with_it}")
        _require(self.num_envs >= 2, self, "num_envs", f"an integer >= 2 {with_it}")
        _require(not self.teacher, self, "teacher", f"empty {with_it}")

    @property
    def estimator(self) -> Advantage:
        """The estimator, also where `advantage` names one with its options."""
        match self.advantage:
            case "stream-lag":
                return "variance-horizon-return"
            case "stream-time":
                return "variance-gamma"
            case _:
                return self.advantage

    def check_ranks(self, size: int) -> None:
        """What several processes that train together (`fastrl.ranks`) ask of a config.

        Raises:
            ValueError: An option is for one process alone, or does not divide.
        """
        if size == 1:
            return
        why = f"with {size} ranks"
        _require(self.advantage == "gae", self, "advantage", f"gae {why}")
        for name in ("teacher", "kl_ref"):
            _require(not getattr(self, name), self, name, f"empty {why}")
        ok = self.reward_scaling != "return_std"
        _require(ok, self, "reward_scaling", f"none or clip {why} (the others' returns count too)")
        ok = self.num_envs % (size * self.num_pools) == 0
        divisor = f"{size} * num_pools = {size * self.num_pools}"
        _require(ok, self, "num_envs", f"a multiple of {divisor} {why}")

    def _check_group(self) -> None:
        _require(self.num_pools == 1, self, "num_pools", "1 with advantage group")
        divides = self.num_envs % self.group_size == 0
        divisor = f"a divisor of num_envs {self.num_envs}"
        _require(divides, self, "group_size", f"{divisor} with advantage group")
        no_scale = "none or clip with advantage group (the scale drops out)"
        _require(self.reward_scaling != "return_std", self, "reward_scaling", no_scale)
        _require(not self.teacher, self, "teacher", "empty with advantage group")

    @property
    def batch_size(self) -> int:
        """Steps per rollout (T x N), reset steps of NextStep included."""
        return self.num_envs * self.num_steps

    @property
    def minibatch_size(self) -> int:
        """Steps per gradient, when no step of the rollout is left out."""
        return self.batch_size // self.num_minibatches

    @property
    def num_updates(self) -> int:
        """Updates of the whole run, when no step of a rollout is left out."""
        return math.ceil(self.total_steps / self.batch_size)

    @property
    def is_ale(self) -> bool:
        """Whether this is an Atari game."""
        return self.env_id.startswith("ALE/")

    @property
    def stack(self) -> int:
        """Newest frames in an observation (S) that are stacked here: the pool gives one at a time.

        1 where the pool gives whole observations: of games that have no frames, and for
        group-relative advantages, which put environments into states whose earlier frames only
        the pool has.
        """
        options = self.make_options
        frames = self.is_ale and options.get("obs_type", "screen") == "screen"
        return options.get("stack_num", 4) if frames and self.advantage != "group" else 1

    @property
    def make_options(self) -> dict[str, Any]:
        """Keyword options for `fastrl.make`: the protocol's, obs_type, then env_options on top."""
        ram = {"obs_type": "ram"} if self.obs_type == "ram" else {}
        return {**PROTOCOLS[self.protocol], **ram, **self.env_options}

    def to_dict(self) -> dict[str, Any]:
        """The fields as plain values that JSON can hold."""
        values = {f.name: getattr(self, f.name) for f in fields(self)}
        return values | {"env_options": dict(self.env_options)}

    def to_json(self) -> str:
        """JSON text that `from_json` reads back to an equal config."""
        return json.dumps(self.to_dict(), indent=2) + "\n"

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> "TrainConfig":
        """The inverse of `to_dict`; fields that are absent keep their defaults.

        Raises:
            ValueError: A key is not a field, or a value is out of range.
        """
        _refuse_unknown(values)
        if "env_id" not in values:
            raise ValueError("env_id is missing: a config must name its environment")
        return cls(**values)

    @classmethod
    def from_json(cls, text: str) -> "TrainConfig":
        """The inverse of `to_json`.

        Raises:
            ValueError: The text is not a JSON object, a key is unknown or a value out of range.
        """
        try:
            values = json.loads(text)
        except json.JSONDecodeError as error:
            raise ValueError(f"not a JSON config: {error}") from error
        if not isinstance(values, dict):
            raise ValueError(f"a config is a JSON object, got {type(values).__name__}")
        return cls.from_dict(values)  # pyright: ignore[reportUnknownArgumentType]


PROTOCOLS: Mapping[Protocol, Mapping[str, Any]] = MappingProxyType(
    {
        "none": {},
        "classic": {
            "repeat_action_probability": 0.0,
            "life_loss_info": True,
            "use_fire_reset": True,
            "noop_max": 30,
            "full_action_space": False,
            "reward_clipping": False,
        },
        "machado": {
            "repeat_action_probability": 0.25,
            "use_fire_reset": False,
            "noop_max": 0,
            "full_action_space": True,
            "reward_clipping": False,
        },
    }
)
"""Options of `fastrl.make` for each protocol. Rewards stay raw: `reward_scaling` clips them.

The episodic life of the classic protocol (a lost life is terminal, the game goes on) is what ale-py
calls `life_loss_info`; its `episodic_life` would start a new game."""

_MINATAR: dict[str, Any] = {
    "num_envs": 256,
    "num_steps": 64,
    "num_minibatches": 16,
    "update_epochs": 3,
    "learning_rate": 2.5e-3,
    "gamma": 0.995,
    "gae_lambda": 0.9,
    "clip_coef": 0.3,
    "ent_coef": 0.015,
    "checkpoint_every": 25,
}

PRESETS: Mapping[str, Mapping[str, Any]] = MappingProxyType(
    {
        "minatar": _MINATAR,
        "minatar-large": _MINATAR | {"num_envs": 2048, "num_steps": 16, "num_minibatches": 64},
        "catch": {
            "total_steps": 200_000,
            "num_envs": 64,
            "num_steps": 32,
            "num_minibatches": 4,
            "learning_rate": 2.5e-3,
            "checkpoint_every": 25,
        },
        "atari": {
            "protocol": "classic",
            "reward_scaling": "clip",
            "autoreset_mode": "NextStep",
            "total_steps": 10_000_000,
            "num_envs": 8,
            "num_steps": 128,
            "num_minibatches": 4,
            "update_epochs": 4,
            "learning_rate": 2.5e-4,
            "clip_coef": 0.1,
            "clip_vloss": True,
            "checkpoint_every": 500,
        },
        "atari-gpu": {
            "protocol": "classic",
            "reward_scaling": "clip",
            "total_steps": 10_000_000,
            "num_envs": 1024,
            "num_pools": 2,
            "num_steps": 64,
            "num_minibatches": 16,
            "update_epochs": 4,
            "learning_rate": 1e-3,
            "clip_coef": 0.1,
            "clip_vloss": True,
            "precision": "bf16",
            "compile": True,
            "cuda_graphs": True,
            "checkpoint_every": 50,
        },
        "atari-ram": {
            "obs_type": "ram",
            "protocol": "classic",
            "reward_scaling": "clip",
            "total_steps": 5_000_000,
            "num_envs": 64,
            "num_steps": 128,
            "num_minibatches": 8,
            "update_epochs": 4,
            "learning_rate": 1e-3,
            "clip_coef": 0.2,
            "checkpoint_every": 100,
        },
        "machado": {
            "protocol": "machado",
            "reward_scaling": "clip",
            "autoreset_mode": "NextStep",
            "total_steps": 50_000_000,
            "policy": "impala_resnet",
            "num_envs": 120,
            "num_steps": 128,
            "num_minibatches": 4,
            "update_epochs": 4,
            "learning_rate": 2.5e-4,
            "clip_coef": 0.1,
            "checkpoint_every": 100,
        },
    }
)
"""Overrides of the field defaults. minatar-large: minatar for thousands of environments; it learns
as much from as many steps, if those are millions (benchmarks/sweeps/large_batch_minatar.toml).
atari: CleanRL's ppo_atari_envpool.py (classic protocol).
atari-gpu: that for a GPU; batches 64 times as large, minibatches 16 times, the rate 4 times. How
well it learns has not been measured yet.
machado: Cleanba's PPO."""


MAY_CHANGE_ON_RESUME = frozenset(
    {
        "total_steps",
        "run_dir",
        "env_threads",
        "device",
        "torch_threads",
        "precision",
        "compile",
        "cuda_graphs",
        "checkpoint_every",
        "track",
        "wandb_mode",
        "wandb_project",
        "tensorboard",
    }
)
"""Everything else would make a resumed run a different experiment."""

LITERAL: Mapping[str, Mapping[str, Any]] = MappingProxyType(
    {
        "stream-lag": {"vd_map": "prec", "vd_norm": "max", "vd_beta": 1.0},
        "stream-time": {
            "gae_lambda": 1.0,
            "vd_beta": 1.0,
            "vd_base": "var",
            "vd_loss": "nll",
            "vd_map": "ev",
            "vd_ref": "self",
            "vd_signal": "return",
        },
    }
)
"""The two readings of the idea as its author put it, by value of `advantage`: weights by how far
ahead a reward is, or a discount by how sure the critic is of the state reached."""

_SIGNED = ("none", "head-only", "yoked", "shuffled", "negated")
_CONTROLS: dict[str, tuple[Control, ...]] = {
    "variance-gamma": _SIGNED,
    "variance-lambda": _SIGNED,
    "variance-lambda-ensemble": _SIGNED,
    "variance-horizon": ("none", "head-only"),
    "variance-horizon-return": ("none", "head-only"),
    "variance-horizon-lite": ("none", "head-only", "yoked"),
}
"""The weights of variance-horizon* are the same for all states: there is nothing to shuffle."""

_MAPS: dict[str, tuple[VdMap, ...]] = {
    "variance-gamma": ("auto", "odds", "ev"),
    "variance-lambda": ("auto", "odds"),
    "variance-lambda-ensemble": ("auto",),
    "variance-horizon": ("auto", "ev", "prec"),
    "variance-horizon-return": ("auto", "ev", "prec"),
    "variance-horizon-lite": ("auto", "ev"),
}


def default_preset(env_id: str, obs_type: str = "screen") -> str:
    """The preset that fits an environment id and, for Atari, what is observed."""
    if env_id.startswith("ALE/"):
        return "atari-ram" if obs_type == "ram" else "atari"
    return "catch" if env_id.startswith("Catch") else "minatar"


def config_for(env_id: str, *, preset: str | None = None, **overrides: Any) -> TrainConfig:
    """The config of a run: field defaults, the preset, what `LITERAL` fixes, then `overrides`.

    Args:
        env_id: What to play.
        preset: A key of `PRESETS`; None picks by environment.
        **overrides: Fields of `TrainConfig`.

    Raises:
        ValueError: The preset or a field is unknown, or a value is out of range.
    """
    name = default_preset(env_id, overrides.get("obs_type", "screen")) if preset is None else preset
    if name not in PRESETS:
        raise ValueError(f"unknown preset {name!r}; there are {', '.join(PRESETS)}")
    fixed = LITERAL.get(overrides.get("advantage", ""), {})
    values = {"env_id": env_id, "preset": name, **PRESETS[name], **fixed}
    return TrainConfig.from_dict(values | overrides)


def load_config(run_dir: str | Path) -> TrainConfig:
    """The config of a run folder.

    Raises:
        FileNotFoundError: There is no config.json in it.
        ValueError: It is not a config.
    """
    path = Path(run_dir) / "config.json"
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError:
        raise FileNotFoundError(f"{run_dir} is not a run folder: it has no config.json") from None
    try:
        return TrainConfig.from_json(text)
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from error


def replace(config: TrainConfig, **changes: Any) -> TrainConfig:
    """A copy with some fields changed, checked again.

    Raises:
        ValueError: A field is unknown or a value out of range.
    """
    _refuse_unknown(changes)
    return dataclasses.replace(config, **changes)


def _refuse_unknown(values: Mapping[str, Any]) -> None:
    known = [f.name for f in fields(TrainConfig)]
    unknown = sorted(set(values) - set(known))
    if unknown:
        raise ValueError(
            f"unknown config key{'s' if len(unknown) > 1 else ''} {', '.join(unknown)}; "
            f"allowed are {', '.join(known)}"
        )


def _require(ok: bool, config: TrainConfig, name: str, allowed: str) -> None:
    if not ok:
        raise ValueError(f"{name} must be {allowed}, got {getattr(config, name)!r}")


def _require_between(config: TrainConfig, name: str, low: str, high: str, why: str) -> None:
    bounds = getattr(config, low), getattr(config, high)
    allowed = f"in [{low}, {high}] = [{bounds[0]}, {bounds[1]}] {why}"
    _require(bounds[0] <= getattr(config, name) <= bounds[1], config, name, allowed)


def _is_mapping(config: TrainConfig, name: str) -> bool:
    return isinstance(getattr(config, name), Mapping)


def _is_int(config: TrainConfig, name: str, low: int, high: float = math.inf) -> bool:
    value = getattr(config, name)
    return isinstance(value, int) and not isinstance(value, bool) and low <= value <= high


def _is_number(config: TrainConfig, name: str, low: float, high: float = math.inf) -> bool:
    value = getattr(config, name)
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        return False
    return math.isfinite(value) and low <= value <= high


_LITERALS: dict[str, tuple[str, ...]] = {
    name: get_args(kind)
    for name, kind in get_type_hints(TrainConfig).items()
    if getattr(kind, "__origin__", None) is Literal
}
