"""Writes palettes_generated.h from palettes.json.

    python envs/atari/make_palettes.py <output file>

A palette has 256 colours, 16 to a line of the file, in hexadecimal.
"""

import json
import sys
from collections.abc import Iterator
from pathlib import Path

HERE = Path(__file__).parent


def read(lines: list[str], size: int) -> bytes:
    """The bytes of 256 colours of `size` bytes each."""
    table = bytes.fromhex("".join(lines))
    if len(table) != 256 * size:
        raise ValueError(f"a palette has {256 * size} bytes here, not {len(table)}")
    return table


def header(palettes: dict[str, dict[str, list[str]]]) -> Iterator[str]:
    """The header, line by line."""
    yield "// Written by make_palettes.py from palettes.json. Not to be edited."
    yield "#pragma once"
    yield "#include <array>"
    yield "#include <cstdint>"
    yield "namespace fastrl::envs::atari {"
    yield "/// What the 256 palette indices look like: grey, and red, green, blue."
    yield "struct Palette {"
    yield "std::array<std::uint8_t, 256> grey;"
    yield "std::array<std::array<std::uint8_t, 3>, 256> rgb;"
    yield "};"
    for name, palette in palettes.items():
        grey, rgb = read(palette["grey"], 1), read(palette["rgb"], 3)
        colours = ",".join(f"{{{r},{g},{b}}}" for r, g, b in zip(*[iter(rgb)] * 3, strict=True))
        yield f"inline constexpr Palette k{name.capitalize()}Palette{{"
        yield f"{{{','.join(map(str, grey))}}}, {{{{{colours}}}}}}};"
    yield "}  // namespace fastrl::envs::atari"


def main() -> None:
    """Reads palettes.json beside this file and writes the header where the command line says."""
    palettes = json.loads((HERE / "palettes.json").read_text())
    Path(sys.argv[1]).write_text("\n".join(header(palettes)) + "\n")


if __name__ == "__main__":
    main()
