"""Writes games_generated.h from games.json: the facts as tables, the rules as C++.

    python envs/atari/make_games.py <output file>

The notation of games.json is described in README.md. An expression of it has Python's syntax, so
`ast` parses it, and what is not in the notation is refused here, at build time.
"""

import ast
import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent
ACTIONS = (
    "NOOP", "FIRE", "UP", "RIGHT", "LEFT", "DOWN",
    "UPRIGHT", "UPLEFT", "DOWNRIGHT", "DOWNLEFT", "UPFIRE", "RIGHTFIRE",
    "LEFTFIRE", "DOWNFIRE", "UPRIGHTFIRE", "UPLEFTFIRE", "DOWNRIGHTFIRE", "DOWNLEFTFIRE",
)  # fmt: skip
ACTION_NUMBER = {name: number for number, name in enumerate(ACTIONS)} | {"RESET": 40}
OPERATORS: dict[type[ast.AST], str] = {
    ast.Add: "+",
    ast.Sub: "-",
    ast.Mult: "*",
    ast.Div: "/",
    ast.Mod: "%",
    ast.BitAnd: "&",
    ast.BitOr: "|",
    ast.RShift: ">>",
    ast.Eq: "==",
    ast.NotEq: "!=",
    ast.Lt: "<",
    ast.LtE: "<=",
    ast.Gt: ">",
    ast.GtE: ">=",
    ast.And: "&&",
    ast.Or: "||",
    ast.USub: "-",
    ast.Not: "!",
}
FUNCTIONS = {"sel", "min", "max", "s8", "u8", "blank", "wrapneg", "popcount", "dec"}
OVER_RANGES = {"sum", "count", "all"}
SCHEMES = {"2K", "4K", "F8", "F8SC", "F6", "F6SC", "E0", "FE", "DPC"}
PROPERTIES = {  # console_overrides: the field of Properties and its value, or nothing.
    "ystart": lambda v: f".window_top = {int(v)}",
    "height": lambda v: f".window_height = {int(v)}",
    "hmove_blanks": lambda v: f".hmove_blanks = {boolean(v == 'YES')}",
    "controller_left": lambda v: f".left_paddles = {boolean(v == 'PADDLES')}",
    "controller_right": lambda v: f".right_paddles = {boolean(v == 'PADDLES')}",
    "swap_paddles": lambda v: f".swap_paddles = {boolean(v == 'YES')}",
    "swap_ports": lambda v: f".swap_ports = {boolean(v == 'YES')}",
    "left_difficulty": lambda v: f".left_difficulty_a = {boolean(v == 'A')}",
    "right_difficulty": lambda v: f".right_difficulty_a = {boolean(v == 'A')}",
    "phosphor": lambda _: "",  # A way of showing the picture, not of making it.
}
PROPERTY_ORDER = list(PROPERTIES)
MAX_PRESSES = 10000


def boolean(value: bool) -> str:
    """True and False, in C++."""
    return "true" if value else "false"


def type_name(game: str) -> str:
    """`tic_tac_toe_3d` is `TicTacToe3d`."""
    return "".join(part.capitalize() for part in game.split("_"))


class Translator:
    """Expressions to C++. A name becomes `name_`, so that none is a keyword."""

    def __init__(self, functions: set[str], names: dict[str, str], memory: str) -> None:
        self.functions = functions
        self.names = names
        self.memory = memory

    def __call__(self, expression: str | int) -> str:
        """The C++ of an expression."""
        return self.node(ast.parse(str(expression), mode="eval").body)

    def node(self, node: ast.AST) -> str:
        """The C++ of a part of an expression."""
        match node:
            case ast.Constant(value=int(value)):
                return f"Int({value})"
            case ast.Name(id=name):
                return self.names.get(name, f"{name}_")
            case ast.Attribute(value=ast.Name(id="old"), attr=name):
                return f"old_{name}_"
            case ast.Subscript(value=ast.Name(id="ram"), slice=address):
                return self.ram(address)
            case ast.BinOp(left=left, op=op, right=right):
                return f"({self.node(left)} {OPERATORS[type(op)]} {self.node(right)})"
            case ast.UnaryOp(op=op, operand=operand):
                return f"Int({OPERATORS[type(op)]}{self.node(operand)})"
            case ast.BoolOp(op=op, values=values):
                terms = f" {OPERATORS[type(op)]} ".join(self.node(value) for value in values)
                return f"Int({terms})"
            case ast.Compare(left=left, ops=[op], comparators=[right]):
                return f"({self.node(left)} {OPERATORS[type(op)]} {self.node(right)})"
            case ast.Call(func=ast.Name(id=name), args=arguments):
                return self.call(name, arguments)
        raise ValueError(f"not in the notation: {ast.unparse(node)}")

    def ram(self, address: ast.AST) -> str:
        """A byte of console memory."""
        return f"{self.memory}.ram({self.node(address)})"

    def call(self, name: str, arguments: list[ast.expr]) -> str:
        """A function of the notation or of the game."""
        if name == "bcd":
            return f"rules::bcd({', '.join(self.ram(a) for a in arguments)})"
        if name == "lo":
            return f"({self.ram(arguments[0])} & Int(15))"
        if name == "hi":
            return f"({self.ram(arguments[0])} >> Int(4))"
        if name in ("peek", "rng"):
            return f"{self.memory}.{name}({', '.join(map(self.node, arguments))})"
        if name in OVER_RANGES:
            index, first, last, body = arguments
            function = f"[&](Int {self.node(index)}) {{ return {self.node(body)}; }}"
            return f"rules::{name}({self.node(first)}, {self.node(last)}, {function})"
        if name in FUNCTIONS:
            return f"rules::{name}({', '.join(map(self.node, arguments))})"
        if name in self.functions:
            return f"{name}_({', '.join(map(self.node, arguments))})"
        raise ValueError(f"not in the notation: {name}()")


def names_in(expression: str | int) -> set[str]:
    """Variables that an expression reads, `old.x` as `old.x`."""
    found: set[str] = set()
    for node in ast.walk(ast.parse(str(expression), mode="eval")):
        if isinstance(node, ast.Name):
            found.add(node.id)
        elif isinstance(node, ast.Attribute):
            found.add(f"old.{node.attr}")
    return found


def update_function(game: dict[str, Any]) -> Iterator[str]:
    """What happens to the state after a frame."""
    state = {variable["name"]: i for i, variable in enumerate(game["state"])}
    types = {variable["name"]: variable["type"] for variable in game["state"]}
    narrow = {"i32": "{}", "bool": "({} != 0)", "i8": "rules::s8({})"}
    functions = game.get("defs", [])
    translate = Translator({name for name, _, _ in functions}, {}, "memory")
    read = set().union(*(names_in(expression) for _, expression in game["update"]))
    assigned = {name for name, _ in game["update"]}
    declared: set[str] = set()

    yield "template <typename Memory>"
    yield "static void update(const Memory& memory, RuleState& state) noexcept {"
    for name, parameters, body in functions:
        arguments = ", ".join(f"Int {parameter}_" for parameter in parameters)
        yield f"const auto {name}_ = [&]({arguments}) {{ return {translate(body)}; }};"
    for name, i in state.items():
        if f"old.{name}" in read:
            yield f"const Int old_{name}_ = state[{i}];"
        if name in read:
            yield f"Int {name}_ = state[{i}];"
            declared.add(name)
    for name, expression in game["update"]:
        value = narrow[types[name]].format(translate(expression)) if name in types else None
        kind = "" if name in declared else "Int "
        declared.add(name)
        yield f"{kind}{name}_ = {value or translate(expression)};"
    for name, i in state.items():
        if name in assigned:
            yield f"state[{i}] = {name}_.value;"
    yield "}"


def outcome_function(game: dict[str, Any]) -> Iterator[str]:
    """Reward, end and lives, read from the state."""
    names = {variable["name"]: f"Int(state[{i}])" for i, variable in enumerate(game["state"])}
    translate = Translator(set(), names, "")
    out = game["out"]
    yield "static Outcome outcome([[maybe_unused]] const RuleState& state) noexcept {"
    yield f"return {{.reward = {translate(out['reward'])}.value,"
    yield f".terminal = bool({translate(out['terminal'])}),"
    yield f".lives = {translate(out['lives'])}.value}};"
    yield "}"


def locals_of(steps: list[Any], state: dict[str, str]) -> set[str]:
    """Names that a mode program assigns and that are not the state's."""
    found: set[str] = set()
    for step in steps:
        if step[0] == "let" and step[1] not in state:
            found.add(step[1])
        for part in step[1:]:
            if isinstance(part, list):
                found |= locals_of(part, state)
    return found


def mode_function(game: dict[str, Any]) -> Iterator[str]:
    """The mode program."""
    names = {variable["name"]: f"Int(state[{i}])" for i, variable in enumerate(game["state"])}
    program = game["modes"]["program"]
    translate = Translator(set(), names, "player")

    def block(steps: list[Any]) -> Iterator[str]:
        for step in steps:
            match step:
                case ["select", frames]:
                    yield f"player.press_select({translate(frames)}.value);"
                case ["reset_switch"]:
                    yield "player.press_reset();"
                case ["act", action]:
                    yield f"player.act({ACTION_NUMBER[action]});  // {action}"
                case ["let", name, expression]:
                    value = translate(expression)
                    if name in names:
                        yield f"{names[name][4:-1]} = {value}.value;"
                    else:
                        yield f"{name}_ = {value};"
                case ["if", condition, yes, no]:
                    yield f"if ({translate(condition)}) {{"
                    yield from block(yes)
                    yield "} else {"
                    yield from block(no)
                    yield "}"
                case ["repeat", times, body]:
                    yield f"for (int i = 0; i < {times}; ++i) {{"
                    yield from block(body)
                    yield "}"
                case ["until", condition, body, *limit]:
                    most = limit[0] if limit else MAX_PRESSES
                    yield f"for (int i = 0; !{translate(condition)}; ++i) {{"
                    yield f"if (i == {most}) return false;"
                    yield from block(body)
                    yield "}"
                case _:
                    raise ValueError(f"not in the notation: {step}")

    yield "/// False if the program did not find the mode."
    yield "template <typename Player>"
    yield (
        "static bool choose_mode([[maybe_unused]] Player& player,"
        " [[maybe_unused]] RuleState& state) noexcept {"
    )
    if any("mode" in names_in(text) for text in expressions_of(program)):
        yield "const Int mode_ = player.mode();"
    for name in sorted(locals_of(program, names)):
        yield f"Int {name}_;"
    yield from block(program)
    yield "return true;"
    yield "}"


def expressions_of(steps: list[Any]) -> Iterator[str]:
    """Every expression in a mode program."""
    for step in steps:
        if step[0] in ("until", "if"):
            yield step[1]
        elif step[0] == "let":
            yield step[2]
        elif step[0] == "select":
            yield str(step[1])
        for part in step[1:]:
            if isinstance(part, list):
                yield from expressions_of(part)


def bits(actions: list[str]) -> str:
    """A set of actions, bit a for action a."""
    return f"0x{sum(1 << ACTION_NUMBER[action] for action in actions):05X}"


def facts(name: str, game: dict[str, Any]) -> Iterator[str]:
    """One GameFacts; what is not there has the default of the struct."""
    if game["cart"] not in SCHEMES:
        raise ValueError(f"{name}: unknown cartridge {game['cart']!r}")
    overrides = game["console_overrides"]
    chosen = [PROPERTIES[key](overrides[key]) for key in PROPERTY_ORDER if key in overrides]
    properties = ", ".join([f".scheme = Scheme::k{game['cart']}", *filter(None, chosen)])
    legal = [action for action in ACTIONS if action not in game["actions"]["illegal"]]
    starts = ", ".join(f"{{{ACTION_NUMBER[a]}, {n}}}" for a, n in game["start_actions"])
    initial = ", ".join(str(int(v["on_reset"] or 0)) for v in game["state"])
    touched = sum(1 << i for i, v in enumerate(game["state"]) if v["on_reset"] is not None)
    kind = type_name(name)
    yield f'{{.name = "{name}",'
    yield f'.md5 = "{game["md5"]}",'
    yield f".properties = {{{properties}}},"
    yield f".paddles = {boolean(game['paddles'])},"
    if "paddle_max" in game.get("env_settings", {}):
        yield f".paddle_max = {game['env_settings']['paddle_max']},"
    yield f".minimal_actions = {bits(game['actions']['minimal'])},"
    yield f".legal_actions = {bits(legal)},"
    if starts:
        yield f".start_actions = {{{{{starts}}}}},"
    yield f".modes = k{kind}Modes,"
    yield f".difficulties = k{kind}Difficulties,"
    yield f".on_reset = {{{initial}}},"
    yield f".touched_by_reset = 0x{touched:02X}}},"


def dispatch(games: dict[str, Any], call: str) -> Iterator[str]:
    """A switch that calls the same function of the game in question."""
    yield "switch (game) {"
    for name in games:
        kind = type_name(name)
        yield f"case Game::k{kind}: return generated::{kind}::{call};"
    yield "}"


def header(games: dict[str, Any]) -> Iterator[str]:
    """The header, line by line."""
    yield "// Written by envs/atari/make_games.py from envs/atari/games.json. Not to be edited."
    yield "#pragma once"
    yield "#include <array>"
    yield "#include <cstdint>"
    yield '#include "envs/atari/rules.h"'
    yield "namespace fastrl::envs::atari {"
    yield "enum class Game : std::uint8_t {"
    for name in games:
        yield f"k{type_name(name)},"
    yield "};"
    yield "namespace generated {"
    for name, game in games.items():
        yield f"struct {type_name(name)} {{"
        yield from update_function(game)
        yield from outcome_function(game)
        yield from mode_function(game)
        yield "};"
        for field, key in (("Modes", "modes"), ("Difficulties", "difficulties")):
            values = game[key]["available"]
            yield (
                f"inline constexpr std::array<std::int16_t, {len(values)}>"
                f" k{type_name(name)}{field}{{{', '.join(map(str, values))}}};"
            )
    yield f"inline constexpr std::array<GameFacts, {len(games)}> kGames{{{{"
    for name, game in games.items():
        yield from facts(name, game)
    yield "}};"
    yield "}  // namespace generated"
    yield "using generated::kGames;"
    yield "/// Brings the rules up to date with the console's memory, after a frame."
    yield "template <typename Memory>"
    yield "void update_rules(Game game, const Memory& memory, RuleState& state) noexcept {"
    yield from dispatch(games, "update(memory, state)")
    yield "}"
    yield "inline Outcome outcome_of(Game game, const RuleState& state) noexcept {"
    yield from dispatch(games, "outcome(state)")
    yield "return {};"
    yield "}"
    yield "/// Presses what it takes to play the player's mode. False if the mode was not found."
    yield "template <typename Player>"
    yield "bool choose_mode(Game game, Player& player, RuleState& state) noexcept {"
    yield from dispatch(games, "choose_mode(player, state)")
    yield "return true;"
    yield "}"
    yield "}  // namespace fastrl::envs::atari"


def main() -> None:
    """Reads games.json beside this file and writes the header where the command line says."""
    games = json.loads((HERE / "games.json").read_text())["games"]
    Path(sys.argv[1]).write_text("\n".join(header(games)) + "\n")


if __name__ == "__main__":
    main()
