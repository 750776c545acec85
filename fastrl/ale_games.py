"""The Atari games that ale-py has ROMs for, as data: listing them must not load ale-py."""

# Name as in `ALE/<name>-v5`: how many actions the game has when `full_action_space` is off.
# Held to ale_py by tests/oracle/test_ale_backend.py.
# fmt: off
ALE_NUM_ACTIONS: dict[str, int] = {
    "Adventure": 18, "AirRaid": 6, "Alien": 18, "Amidar": 10, "Assault": 7, "Asterix": 9,
    "Asteroids": 14, "Atlantis": 4, "Atlantis2": 4, "Backgammon": 3, "BankHeist": 18,
    "BasicMath": 6, "BattleZone": 18, "BeamRider": 9, "Berzerk": 18, "Blackjack": 4, "Bowling": 6,
    "Boxing": 18, "Breakout": 4, "Carnival": 6, "Casino": 4, "Centipede": 18, "ChopperCommand": 18,
    "CrazyClimber": 9, "Crossbow": 18, "Darkchambers": 18, "Defender": 18, "DemonAttack": 6,
    "DonkeyKong": 18, "DoubleDunk": 18, "Earthworld": 18, "ElevatorAction": 18, "Enduro": 9,
    "Entombed": 18, "Et": 18, "FishingDerby": 18, "FlagCapture": 18, "Freeway": 3, "Frogger": 5,
    "Frostbite": 18, "Galaxian": 6, "Gopher": 8, "Gravitar": 18, "Hangman": 18, "HauntedHouse": 18,
    "Hero": 18, "HumanCannonball": 18, "IceHockey": 18, "Jamesbond": 18, "JourneyEscape": 16,
    "Kaboom": 4, "Kangaroo": 18, "KeystoneKapers": 14, "KingKong": 6, "Klax": 18, "Koolaid": 9,
    "Krull": 18, "KungFuMaster": 14, "LaserGates": 18, "LostLuggage": 9, "MarioBros": 18,
    "MiniatureGolf": 18, "MontezumaRevenge": 18, "MrDo": 10, "MsPacman": 9, "NameThisGame": 6,
    "Othello": 10, "Pacman": 5, "Phoenix": 8, "Pitfall": 18, "Pitfall2": 18, "Pong": 6, "Pooyan": 6,
    "PrivateEye": 18, "Qbert": 6, "Riverraid": 18, "RoadRunner": 18, "Robotank": 18, "Seaquest": 18,
    "SirLancelot": 6, "Skiing": 3, "Solaris": 18, "SpaceInvaders": 6, "SpaceWar": 18,
    "StarGunner": 18, "Superman": 18, "Surround": 5, "Tennis": 18, "Tetris": 5, "TicTacToe3D": 10,
    "TimePilot": 10, "Trondead": 18, "Turmoil": 12, "Tutankham": 8, "UpNDown": 6, "Venture": 18,
    "VideoCheckers": 5, "VideoChess": 10, "VideoCube": 18, "VideoPinball": 9, "WizardOfWor": 10,
    "WordZapper": 18, "YarsRevenge": 18, "Zaxxon": 18,
}
# fmt: on

ALE_GAMES: tuple[str, ...] = tuple(ALE_NUM_ACTIONS)
