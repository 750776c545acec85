"""The 6507 against an independent description: all 256 opcodes, flags, decimal mode, accesses.

The model below is written from public tables of the NMOS 6502 (documented opcodes by mnemonic and
form, cycles by rule) and, where the reference console departs from the chip, from
console_spec.md 2: the order of accesses, decimal mode with digits above nine, undocumented opcodes.
"""

import random
from collections.abc import Callable
from dataclasses import dataclass, field

import pytest
from atari_native import build

# Forms: implied, accumulator, immediate, zero page, zero page X and Y, absolute, absolute X and Y,
# (zero page,X), (zero page),Y.
IMP, ACC, IMM, ZP, ZPX, ZPY, ABS, ABX, ABY, IZX, IZY = range(11)
READ, WRITE, MODIFY = range(3)
CYCLES = {
    READ: {IMM: 2, ZP: 3, ZPX: 4, ZPY: 4, ABS: 4, ABX: 4, ABY: 4, IZX: 6, IZY: 5},
    WRITE: {ZP: 3, ZPX: 4, ZPY: 4, ABS: 4, ABX: 5, ABY: 5, IZX: 6, IZY: 6},
    MODIFY: {ACC: 2, ZP: 5, ZPX: 6, ABS: 6, ABX: 7, ABY: 7, IZX: 8, IZY: 8},
}
ALU = {IZX: 0x01, ZP: 0x05, IMM: 0x09, ABS: 0x0D, IZY: 0x11, ZPX: 0x15, ABY: 0x19, ABX: 0x1D}
COMBINED = {IZX: 0x03, ZP: 0x07, ABS: 0x0F, IZY: 0x13, ZPX: 0x17, ABY: 0x1B, ABX: 0x1F}
SHIFT = {ZP: 0x06, ACC: 0x0A, ABS: 0x0E, ZPX: 0x16, ABX: 0x1E}


def offset(forms: dict[int, int], base: int, *without: int) -> dict[int, int]:
    return {form: base + code for form, code in forms.items() if form not in without}


MEMORY: dict[str, tuple[int, dict[int, int]]] = {
    "ORA": (READ, offset(ALU, 0x00)),
    "AND": (READ, offset(ALU, 0x20)),
    "EOR": (READ, offset(ALU, 0x40)),
    "ADC": (READ, offset(ALU, 0x60)),
    "STA": (WRITE, offset(ALU, 0x80, IMM)),
    "LDA": (READ, offset(ALU, 0xA0)),
    "CMP": (READ, offset(ALU, 0xC0)),
    "SBC": (READ, offset(ALU, 0xE0)),
    "ASL": (MODIFY, offset(SHIFT, 0x00)),
    "ROL": (MODIFY, offset(SHIFT, 0x20)),
    "LSR": (MODIFY, offset(SHIFT, 0x40)),
    "ROR": (MODIFY, offset(SHIFT, 0x60)),
    "DEC": (MODIFY, offset(SHIFT, 0xC0, ACC)),
    "INC": (MODIFY, offset(SHIFT, 0xE0, ACC)),
    "BIT": (READ, {ZP: 0x24, ABS: 0x2C}),
    "STX": (WRITE, {ZP: 0x86, ABS: 0x8E, ZPY: 0x96}),
    "STY": (WRITE, {ZP: 0x84, ABS: 0x8C, ZPX: 0x94}),
    "LDX": (READ, {IMM: 0xA2, ZP: 0xA6, ABS: 0xAE, ZPY: 0xB6, ABY: 0xBE}),
    "LDY": (READ, {IMM: 0xA0, ZP: 0xA4, ABS: 0xAC, ZPX: 0xB4, ABX: 0xBC}),
    "CPX": (READ, {IMM: 0xE0, ZP: 0xE4, ABS: 0xEC}),
    "CPY": (READ, {IMM: 0xC0, ZP: 0xC4, ABS: 0xCC}),
    "SLO": (MODIFY, offset(COMBINED, 0x00)),
    "RLA": (MODIFY, offset(COMBINED, 0x20)),
    "SRE": (MODIFY, offset(COMBINED, 0x40)),
    "RRA": (MODIFY, offset(COMBINED, 0x60)),
    "DCP": (MODIFY, offset(COMBINED, 0xC0)),
    "ISB": (MODIFY, offset(COMBINED, 0xE0)),
    "SAX": (WRITE, {ZP: 0x87, ZPY: 0x97, ABS: 0x8F, IZX: 0x83}),
    "LAX": (READ, {ZP: 0xA7, ZPY: 0xB7, ABS: 0xAF, ABY: 0xBF, IZX: 0xA3, IZY: 0xB3}),
    "SHA": (WRITE, {ABY: 0x9F, IZY: 0x93}),
    "SHS": (WRITE, {ABY: 0x9B}),
    "SHX": (WRITE, {ABY: 0x9E}),
    "SHY": (WRITE, {ABX: 0x9C}),
    "LAS": (READ, {ABY: 0xBB}),
}
IMMEDIATE = {
    "ANC": (0x0B, 0x2B),
    "ASR": (0x4B,),
    "ARR": (0x6B,),
    "ANE": (0x8B,),
    "LXA": (0xAB,),
    "SBX": (0xCB,),
    "SBC": (0xEB,),
    "NOP": (0x80, 0x82, 0x89, 0xC2, 0xE2),
}
IMPLIED = {
    "CLC": 0x18, "SEC": 0x38, "CLI": 0x58, "SEI": 0x78, "CLV": 0xB8, "CLD": 0xD8, "SED": 0xF8,
    "TAX": 0xAA, "TXA": 0x8A, "TAY": 0xA8, "TYA": 0x98, "TSX": 0xBA, "TXS": 0x9A,
    "INX": 0xE8, "INY": 0xC8, "DEX": 0xCA, "DEY": 0x88,
}  # fmt: skip
NOP_IMPLIED = (0x1A, 0x3A, 0x5A, 0x7A, 0xDA, 0xEA, 0xFA)
NOP_MEMORY = {
    ZP: (0x04, 0x44, 0x64),
    ZPX: (0x14, 0x34, 0x54, 0x74, 0xD4, 0xF4),
    ABS: (0x0C,),
    ABX: (0x1C, 0x3C, 0x5C, 0x7C, 0xDC, 0xFC),
}
BRANCHES = {  # opcode: the flag it looks at, and the value that takes it
    0x10: ("n", 0), 0x30: ("n", 1), 0x50: ("v", 0), 0x70: ("v", 1),
    0x90: ("c", 0), 0xB0: ("c", 1), 0xD0: ("z", 0), 0xF0: ("z", 1),
}  # fmt: skip
JAMS = (0x02, 0x12, 0x22, 0x32, 0x42, 0x52, 0x62, 0x72, 0x92, 0xB2, 0xD2, 0xF2)


@dataclass
class Model:
    """Registers as Python integers, each flag on its own, and a log of what was accessed."""

    memory: bytearray
    pc: int
    a: int
    x: int
    y: int
    sp: int
    n: int
    v: int
    d: int
    i: int
    z: int
    c: int
    jammed: bool = False
    cycle: int = 0
    log: list[tuple[int, int, int, bool]] = field(default_factory=list)

    def read(self, address: int) -> int:
        address &= 0xFFFF
        self.log.append((self.cycle, address, self.memory[address], False))
        return self.memory[address]

    def write(self, address: int, value: int) -> None:
        self.log.append((self.cycle, address, value, True))
        self.memory[address] = value

    def fetch(self) -> int:
        value = self.read(self.pc)
        self.pc = (self.pc + 1) & 0xFFFF
        return value

    def push(self, value: int) -> None:
        self.write(0x100 + self.sp, value)
        self.sp = (self.sp - 1) & 0xFF

    def pull(self) -> int:
        self.sp = (self.sp + 1) & 0xFF
        return self.read(0x100 + self.sp)

    def peek(self) -> None:
        self.read(0x100 + self.sp)

    @property
    def p(self) -> int:
        return self.n << 7 | self.v << 6 | 0x30 | self.d << 3 | self.i << 2 | self.z << 1 | self.c

    @p.setter
    def p(self, value: int) -> None:
        self.n, self.v, self.d = value >> 7, value >> 6 & 1, value >> 3 & 1
        self.i, self.z, self.c = value >> 2 & 1, value >> 1 & 1, value & 1

    def nz(self, value: int) -> int:
        value &= 0xFF
        self.n, self.z = value >> 7, int(value == 0)
        return value

    def address(self, form: int, reads: bool) -> int:
        if form in (ZP, ZPX, ZPY):
            return (self.fetch() + {ZP: 0, ZPX: self.x, ZPY: self.y}[form]) & 0xFF
        if form == IZX:
            pointer = (self.fetch() + self.x) & 0xFF
            low = self.read(pointer)
            return low | self.read(pointer + 1) << 8
        if form == IZY:
            pointer = self.fetch()
            low = self.read(pointer)
            base, index = low | self.read(pointer + 1) << 8, self.y
        else:
            low = self.fetch()
            base, index = low | self.fetch() << 8, {ABS: 0, ABX: self.x, ABY: self.y}[form]
        address = (base + index) & 0xFFFF
        if reads and address >> 8 != base >> 8:
            self.cycle += 1
        return address

    # Operations. Each takes the byte read and the address, and returns the byte to write.

    def adc(self, m: int) -> None:
        a, carry = self.a, self.c
        if self.d:
            total = 10 * (a >> 4) + a % 16 + 10 * (m >> 4) + m % 16 + carry
            self.c = int(total >= 100)
            low = total % 256
            self.a = (low % 100 // 10) * 16 + low % 10
        else:
            self.a, self.c = (a + m + carry) % 256, (a + m + carry) // 256
        self.nz(self.a)
        self.v = ((a ^ self.a) & (m ^ self.a)) >> 7

    def sbc(self, m: int) -> None:
        a, borrow = self.a, 1 - self.c
        if self.d:
            digits = 10 * (a >> 4) + a % 16 - 10 * (m >> 4) - m % 16 - borrow
            if digits < 0:
                digits += 100
            if digits < 0:
                self.a = (10 * ((256 + digits) >> 4) + (256 + digits) % 16) % 256
            else:
                self.a = (digits % 100 // 10) * 16 + digits % 10
            self.v = ((a ^ self.a) & (self.a ^ m)) >> 7
        else:
            self.a = (a - m - borrow) % 256
            self.v = ((a ^ m) & (a ^ self.a)) >> 7
        self.c = int(a - m - borrow >= 0)
        self.nz(self.a)

    def compare(self, register: int, m: int) -> None:
        self.c = int(register >= m)
        self.nz(register - m)

    def arr(self, m: int) -> None:
        masked, carry = self.a & m, self.c
        self.a = masked >> 1 | carry << 7
        self.nz(self.a)
        if not self.d:
            self.c, self.v = self.a >> 6 & 1, (self.a >> 6 ^ self.a >> 5) & 1
            return
        self.v = (masked ^ self.a) >> 6 & 1
        if masked % 16 + masked % 2 > 5:
            self.a = self.a & 0xF0 | (self.a + 6) % 16
        self.c = int((masked & 0xF0) + (masked & 0x10) > 0x50)
        self.a = (self.a + 0x60 * self.c) % 256

    def operate(self, name: str, m: int, address: int) -> int:
        carry, high = self.c, (address >> 8) + 1
        match name:
            case "ORA":
                self.a = self.nz(self.a | m)
            case "AND":
                self.a = self.nz(self.a & m)
            case "EOR":
                self.a = self.nz(self.a ^ m)
            case "ADC":
                self.adc(m)
            case "SBC":
                self.sbc(m)
            case "LDA":
                self.a = self.nz(m)
            case "LDX":
                self.x = self.nz(m)
            case "LDY":
                self.y = self.nz(m)
            case "LAX":
                self.a = self.x = self.nz(m)
            case "CMP":
                self.compare(self.a, m)
            case "CPX":
                self.compare(self.x, m)
            case "CPY":
                self.compare(self.y, m)
            case "BIT":
                self.n, self.v, self.z = m >> 7, m >> 6 & 1, int(self.a & m == 0)
            case "ASL" | "ROL" | "SLO" | "RLA":
                self.c, m = m >> 7, self.nz(m << 1 | (carry if name in ("ROL", "RLA") else 0))
                if name == "SLO":
                    self.a = self.nz(self.a | m)
                elif name == "RLA":
                    self.a = self.nz(self.a & m)
            case "LSR" | "ROR" | "SRE" | "RRA":
                self.c, m = m & 1, m >> 1 | (carry << 7 if name in ("ROR", "RRA") else 0)
                if name == "SRE":
                    self.a = self.nz(self.a ^ m)
                elif name == "RRA":
                    self.adc(m)
                else:
                    self.nz(m)
            case "INC" | "DEC":
                m = self.nz(m + (1 if name == "INC" else -1))
            case "DCP":
                m = (m - 1) & 0xFF
                self.compare(self.a, m)
            case "ISB":
                m = (m + 1) & 0xFF
                self.sbc(m)
            case "STA" | "STX" | "STY":
                return {"STA": self.a, "STX": self.x, "STY": self.y}[name]
            case "SAX":
                return self.a & self.x
            case "SHA":
                return self.a & self.x & high
            case "SHS":
                self.sp = self.a & self.x
                return self.sp & high
            case "SHX":
                return self.x & high
            case "SHY":
                return self.y & high
            case "LAS":
                self.a = self.x = self.sp = self.nz(self.sp & m)
            case "ANC":
                self.a = self.nz(self.a & m)
                self.c = self.n
            case "ASR":
                self.c = self.a & m & 1
                self.a = self.nz((self.a & m) >> 1)
            case "ARR":
                self.arr(m)
            case "ANE":
                self.a = self.nz((self.a | 0xEE) & self.x & m)
            case "LXA":
                self.a = self.x = self.nz((self.a | 0xEE) & m)
            case "SBX":
                masked = self.a & self.x
                self.c = int(masked >= m)
                self.x = self.nz(masked - m)
            case "NOP":
                pass
            case _:
                raise AssertionError(name)
        return m

    def implied(self, name: str) -> None:
        if name[:2] in ("CL", "SE"):
            setattr(self, name[2].lower(), int(name[0] == "S"))
        elif name == "TXS":
            self.sp = self.x
        elif name == "TSX":
            self.x = self.nz(self.sp)
        elif name[0] == "T":
            setattr(self, name[2].lower(), self.nz(getattr(self, name[1].lower())))
        else:
            register = name[2].lower()
            step = 1 if name[:2] == "IN" else -1
            setattr(self, register, self.nz(getattr(self, register) + step))


Instruction = Callable[[Model], None]


def on_memory(name: str, kind: int, form: int, cycles: int) -> Instruction:
    def run(m: Model) -> None:
        m.cycle += cycles
        if form == ACC:
            m.a = m.operate(name, m.a, 0)
            return
        if form == IMM:
            m.operate(name, m.fetch(), 0)
            return
        address = m.address(form, kind == READ)
        value = m.operate(name, 0 if kind == WRITE else m.read(address), address)
        if kind != READ:
            m.write(address, value)

    return run


def special(code: int, m: Model) -> None:
    """The stack, jumps and branches."""
    match code:
        case 0x00:  # BRK
            m.cycle += 7
            m.fetch()
            m.push(m.pc >> 8)
            m.push(m.pc & 0xFF)
            m.push(m.p)
            m.i = 1
            low = m.read(0xFFFE)
            m.pc = low | m.read(0xFFFF) << 8
        case 0x20:  # JSR
            m.cycle += 6
            low = m.fetch()
            m.peek()
            m.push(m.pc >> 8)
            m.push(m.pc & 0xFF)
            m.pc = low | m.fetch() << 8
        case 0x40:  # RTI
            m.cycle += 6
            m.peek()
            m.p = m.pull()
            low = m.pull()
            m.pc = low | m.pull() << 8
        case 0x60:  # RTS
            m.cycle += 6
            m.peek()
            low = m.pull()
            m.pc = low | m.pull() << 8
            m.fetch()
        case 0x4C:  # JMP
            m.cycle += 3
            low = m.fetch()
            m.pc = low | m.fetch() << 8
        case 0x6C:  # JMP ()
            m.cycle += 5
            low = m.fetch()
            high = m.fetch()
            target = m.read(high << 8 | low)
            m.pc = target | m.read(high << 8 | (low + 1) & 0xFF) << 8
        case 0x08 | 0x48:  # PHP, PHA
            m.cycle += 3
            m.push(m.p if code == 0x08 else m.a)
        case 0x28 | 0x68:  # PLP, PLA
            m.cycle += 4
            m.peek()
            if code == 0x28:
                m.p = m.pull()
            else:
                m.a = m.nz(m.pull())
        case _:
            m.cycle += 2
            flag, taken = BRANCHES[code]
            distance = m.fetch()
            if getattr(m, flag) == taken:
                target = (m.pc + distance - 256 * (distance >> 7)) & 0xFFFF
                m.cycle += 1 + (target >> 8 != m.pc >> 8)
                m.pc = target


def instructions() -> dict[int, Instruction]:
    table: dict[int, Instruction] = {}

    def add(code: int, run: Instruction) -> None:
        assert code not in table, hex(code)
        table[code] = run

    def implied(name: str) -> Instruction:
        def run(m: Model) -> None:
            m.cycle += 2
            if name != "NOP":
                m.implied(name)

        return run

    def jam(m: Model) -> None:
        m.cycle += 2
        m.jammed = True

    for name, (kind, forms) in MEMORY.items():
        for form, code in forms.items():
            cycles = CYCLES[kind][form] + (code == 0xA7)  # The reference's LAX zero page takes 4.
            add(code, on_memory(name, kind, form, cycles))
    for name, codes in IMMEDIATE.items():
        for code in codes:
            add(code, on_memory(name, READ, IMM, 2))
    for form, codes in NOP_MEMORY.items():
        for code in codes:
            add(code, on_memory("NOP", READ, form, CYCLES[READ][form]))
    for name, code in IMPLIED.items():
        add(code, implied(name))
    for code in NOP_IMPLIED:
        add(code, implied("NOP"))
    for code in JAMS:
        add(code, jam)
    for code in (*BRANCHES, 0x00, 0x20, 0x40, 0x60, 0x4C, 0x6C, 0x08, 0x28, 0x48, 0x68):
        add(code, lambda m, code=code: special(code, m))
    return table


TABLE = instructions()
EDGES = (0x00, 0x01, 0x09, 0x0F, 0x10, 0x7F, 0x80, 0x81, 0x99, 0x9A, 0xF0, 0xFE, 0xFF)


def test_every_opcode_has_one_description() -> None:
    assert sorted(TABLE) == list(range(256))


@pytest.mark.parametrize("code", range(256), ids=lambda code: f"{code:02X}")
def test_an_instruction_does_what_the_description_says(code: int) -> None:
    rng = random.Random(code)
    native = build().Processor()

    def byte() -> int:
        return rng.choice(EDGES) if rng.random() < 0.4 else rng.randrange(256)

    image = bytearray(rng.randbytes(0x10000))
    native.load(bytes(image))
    for _ in range(300):
        pc = rng.choice((rng.randrange(0x10000), 0xFFFF, 0x10FE, 0x20FD))
        a, x, y, sp, p = byte(), byte(), byte(), byte(), rng.randrange(256) & 0xCF
        for address, value in zip(range(pc, pc + 4), (code, byte(), byte(), byte()), strict=True):
            image[address & 0xFFFF] = value
            native.poke(address & 0xFFFF, value)
        native.registers = (pc, a, x, y, sp, p, False)
        model = Model(image, pc, a, x, y, sp, *(p >> bit & 1 for bit in (7, 6, 3, 2, 1, 0)))

        log = native.step()
        assert model.fetch() == code
        TABLE[code](model)

        state = f"pc={pc:04X} a={a:02X} x={x:02X} y={y:02X} sp={sp:02X} p={p:02X}"
        assert log == model.log, state
        assert native.cycles == model.cycle, state
        expected = (model.pc, model.a, model.x, model.y, model.sp, model.p & 0xCF, model.jammed)
        assert native.registers == expected, state


@pytest.mark.parametrize(("code", "name"), [(0x69, "adc"), (0xE9, "sbc")])
@pytest.mark.parametrize("decimal", [0, 1])
def test_sums_are_right_for_every_pair_of_bytes(code: int, name: str, decimal: int) -> None:
    native = build().Processor()
    native.poke(0x200, code)
    for a in range(256):
        for m in range(0, 256, 3 if decimal else 5):
            carry = (a + m) & 1
            native.poke(0x201, m)
            native.registers = (0x200, a, 0, 0, 0xFF, decimal << 3 | carry, False)
            native.step()
            model = Model(bytearray(), 0, a, 0, 0, 0, 0, 0, decimal, 0, 0, carry)
            getattr(model, name)(m)
            assert native.registers[1] == model.a
            assert native.registers[5] == model.p & 0xCF


def test_decimal_sums_of_two_digit_numbers_are_decimal() -> None:
    native = build().Processor()
    native.poke(0x200, 0x69)
    for a in range(100):
        for m in range(100):
            native.poke(0x201, int(str(m), 16))
            native.registers = (0x200, int(str(a), 16), 0, 0, 0xFF, 0x08, False)
            native.step()
            assert native.registers[1] == int(str((a + m) % 100), 16)
            assert native.registers[5] & 1 == (a + m >= 100)


def test_reset_starts_at_the_vector_with_every_flag_clear() -> None:
    native = build().Processor()
    native.poke(0xFFFC, 0x34)
    native.poke(0xFFFD, 0xF2)
    native.registers = (1, 2, 3, 4, 5, 0xCF, True)
    native.reset()
    assert native.registers == (0xF234, 0, 0, 0, 0xFF, 0, False)
