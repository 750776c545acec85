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
Policy = Literal["auto", "nature_cnn", "impala_resnet", "minatar_cnn", "mlp", "mlp_small"]
RewardScaling = Literal["none", "clip", "return_std"]
Protocol = Literal["none", "classic", "machado"]
ObsType = Literal["screen", "ram"]
AutoresetMode = Literal["NextStep", "SameStep"]
WandbMode = Literal["online", "offline", "disabled"]
Advantage = Literal["gae", "group"]


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
    """Threads of the environment pool; 0 takes the CPUs that this process may use."""
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
    """Advantage estimator. group: against other attempts from the same state, without a critic."""
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
        for name in ("total_steps", "num_envs", "num_steps", "num_minibatches", "update_epochs"):
            _require(_is_int(self, name, 1), self, name, "an integer >= 1")
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
        for name in ("anneal_lr", "norm_adv", "clip_vloss", "track", "tensorboard"):
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

    def _check_group(self) -> None:
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

PRESETS: Mapping[str, Mapping[str, Any]] = MappingProxyType(
    {
        "minatar": {
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
        },
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
"""Overrides of the field defaults. atari: CleanRL's ppo_atari_envpool.py (classic protocol).
machado: Cleanba's PPO."""


def default_preset(env_id: str, obs_type: str = "screen") -> str:
    """The preset that fits an environment id and, for Atari, what is observed."""
    if env_id.startswith("ALE/"):
        return "atari-ram" if obs_type == "ram" else "atari"
    return "catch" if env_id.startswith("Catch") else "minatar"


def config_for(env_id: str, *, preset: str | None = None, **overrides: Any) -> TrainConfig:
    """The config of a run: field defaults, then the preset, then `overrides`.

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
    values = {"env_id": env_id, "preset": name, **PRESETS[name]}
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
