// What the caller of a MinAtar game may choose, with the package's defaults.
#pragma once

namespace fastrl::envs::minatar {

struct MinAtarOptions {
  double sticky_action_prob = 0.1;  ///< Chance that the previous action is played again, in [0, 1].
  bool difficulty_ramping = true;   ///< Whether Asterix, Seaquest and Space Invaders speed up.

  /// Shows every option to `reader`, with its name and range.
  template <typename Reader>
  void visit(Reader& reader) {
    reader("sticky_action_prob", sticky_action_prob, 0.0, 1.0);
    reader("difficulty_ramping", difficulty_ramping);
  }
};

}  // namespace fastrl::envs::minatar
