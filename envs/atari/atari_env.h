// An Atari game as an agent meets it: frames skipped, pooled, resized and stacked, games started by
// a random number of no-ops. The same bytes as a sub-environment of ale_py.AtariVectorEnv.
//
// Document: console_spec.md 10 (settings, reset, step, processing), 11 (modes, RAM observations).
// Oracle:   tests/oracle/test_atari_pool.py.
#pragma once

#include <algorithm>
#include <array>
#include <cmath>
#include <concepts>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <stdexcept>
#include <string>
#include <type_traits>
#include <utility>
#include <vector>

#include "csrc/core/env.h"
#include "envs/atari/atari.h"
#include "envs/atari/code.h"
#include "envs/atari/image.h"
#include "envs/atari/mt19937.h"
#include "envs/atari/rom.h"
#include "envs/atari/translate.h"

namespace fastrl::envs::atari {

static_assert(kNtscPalette.grey[0] == 0 && kPalPalette.grey[0] == 0, "painters blank with a 0");

/// The options of AtariVectorEnv, with its names and defaults, and `mode` to `ram`.
struct AtariEnvOptions {
  int frameskip = 4;
  float repeat_action_probability = 0.0F;
  int max_num_frames_per_episode = 108000;
  int noop_max = 30;
  bool use_fire_reset = true;
  bool episodic_life = false;   ///< A lost life ends the game, and a new one starts.
  bool life_loss_info = false;  ///< A lost life sets `terminated`, and the game goes on.
  bool reward_clipping = true;
  bool continuous = false;
  float continuous_action_threshold = 0.5F;
  int img_height = 84;
  int img_width = 84;
  bool grayscale = true;
  int stack_num = 4;
  bool maxpool = true;
  int mode = kDefault;
  int difficulty = kDefault;
  bool ram = false;  ///< An observation is the console's memory instead of its screen.
  /// Cartridges become machine code where that is possible; it changes nothing but the speed.
  bool translate = true;

  static constexpr int kDefault = -1;
};

/// A cartridge and the name of the game on it.
struct Cartridge {
  Game game = Game::kPong;
  std::vector<std::uint8_t> image;
};

/// Environments of a pool play its titles in turn.
template <typename Machine>
class AtariShared {
 public:
  /// What environments with the same cartridge have in common.
  struct Title {
    Game game;
    std::vector<std::uint8_t> image;
    std::unique_ptr<const Code> code;
    std::unique_ptr<const Translation> translation;
    Rom rom;  ///< Points to image, code and translation.
    const Palette* palette;
    int height;  ///< Lines on the screen.
    Resize resize;
    std::unique_ptr<const Rehearsal> rehearsal;  ///< On the fast console alone.
  };

  /// `actions`: what action i does, for all titles.
  ///
  /// Throws std::invalid_argument for an image that is too short, a mode or difficulty that a title
  /// does not have, and a mode that it does not reach.
  AtariShared(const AtariEnvOptions& options, std::vector<int> actions,
              std::vector<Cartridge> cartridges)
      : options_(options), actions_(std::move(actions)) {
    for (Cartridge& cartridge : cartridges) titles_.push_back(make_title(std::move(cartridge)));
    for (const Title& title : titles_) screen_size_ = std::max(screen_size_, size_of_screen(title));
  }
  AtariShared(AtariShared&&) noexcept = default;
  AtariShared(const AtariShared&) = delete;
  AtariShared& operator=(AtariShared&&) = delete;
  AtariShared& operator=(const AtariShared&) = delete;
  ~AtariShared() = default;

  [[nodiscard]] const AtariEnvOptions& options() const noexcept { return options_; }
  [[nodiscard]] const std::vector<Title>& titles() const noexcept { return titles_; }

  // ---- shapes -----------------------------------------------------------------------------------
  [[nodiscard]] int num_actions() const noexcept { return static_cast<int>(actions_.size()); }
  [[nodiscard]] int obs_high() const noexcept { return 255; }
  [[nodiscard]] std::vector<int> obs_shape() const {
    std::vector<int> shape;
    if (!options_.ram || options_.stack_num > 1) shape.push_back(options_.stack_num);
    if (options_.ram) {
      shape.push_back(kRamSize);
    } else {
      shape.insert(shape.end(), {options_.img_height, options_.img_width});
      if (!options_.grayscale) shape.push_back(3);
    }
    return shape;
  }
  /// Bytes of one picture of the stack.
  [[nodiscard]] std::size_t picture_size() const noexcept {
    if (options_.ram) return kRamSize;
    return index(options_.img_height) * index(options_.img_width) * channels();
  }
  [[nodiscard]] std::size_t stack_size() const noexcept { return index(options_.stack_num); }
  /// Bytes of a screen as it is captured, of the largest title.
  [[nodiscard]] std::size_t screen_size() const noexcept { return screen_size_; }
  [[nodiscard]] std::size_t size_of_screen(const Title& title) const noexcept {
    return options_.ram ? 0 : index(title.height) * index(kWidth) * channels();
  }
  /// What was last captured, then the stack.
  [[nodiscard]] std::size_t memory_size() const noexcept {
    return screen_size_ + (stack_size() * picture_size());
  }
  /// For a resize or kept_screen.
  [[nodiscard]] std::size_t scratch_size() const noexcept {
    std::size_t most = 0;
    for (const Title& title : titles_) {
      const std::size_t screen = index(title.height) * index(kWidth) / sizeof(float);
      most = std::max({most, title.resize.scratch_size(), screen});
    }
    return most;
  }

  [[nodiscard]] std::size_t channels() const noexcept { return options_.grayscale ? 1 : 3; }
  /// Whether the last two frames of a step are pooled.
  [[nodiscard]] bool pools() const noexcept {
    return !options_.ram && options_.maxpool && options_.frameskip > 1;
  }

  // ---- actions ----------------------------------------------------------------------------------
  [[nodiscard]] bool has_action(int action) const noexcept {
    return std::ranges::find(actions_, action) != actions_.end();
  }
  [[nodiscard]] int action(std::int64_t number) const noexcept {
    return actions_[static_cast<std::size_t>(number)];
  }
  /// Of a continuous action: radius, angle and fire.
  [[nodiscard]] std::vector<std::array<float, 2>> action_bounds() const {
    if (!options_.continuous) return {};
    constexpr auto kPi = static_cast<float>(3.14159265358979323846);
    return {{0.0F, 1.0F}, {-kPi, kPi}, {0.0F, 1.0F}};
  }
  /// Where the stick points, and how far. A number beyond the set (games without FIRE) is NOOP.
  [[nodiscard]] Action action_of(std::span<const float> stick) const noexcept {
    constexpr std::array<std::array<int, 3>, 3> kNumbers{{{9, 5, 8}, {4, 0, 3}, {7, 2, 6}}};
    const auto side = [threshold = options_.continuous_action_threshold](float value) {
      return static_cast<std::size_t>(value < -threshold ? 0 : value > threshold ? 2 : 1);
    };
    const std::size_t across = side(stick[0] * std::cos(stick[1]));
    const std::size_t up = side(stick[0] * std::sin(stick[1]));
    int number = kNumbers[up][across];
    if (stick[2] > options_.continuous_action_threshold) number = number == 0 ? 1 : number + 8;
    return {.number = number < num_actions() ? number : 0, .strength = stick[0]};
  }

 private:
  static constexpr int kRamSize = 128;
  static constexpr int kWidth = 160;

  static constexpr std::size_t index(int i) noexcept { return static_cast<std::size_t>(i); }
  [[nodiscard]] Title make_title(Cartridge cartridge) const {
    const GameFacts& facts = kGames[static_cast<std::size_t>(cartridge.game)];
    const std::string name(facts.name);
    if (cartridge.image.size() < size_of(facts.properties.scheme)) {
      throw std::invalid_argument("the image of " + name + " has " +
                                  std::to_string(cartridge.image.size()) + " bytes; it needs " +
                                  std::to_string(size_of(facts.properties.scheme)));
    }
    check("mode", options_.mode, facts.modes, name);
    check("difficulty", options_.difficulty, facts.difficulties, name);
    auto code = std::make_unique<const Code>(cartridge.image, facts.properties.scheme);
    std::unique_ptr<const Translation> translation;
    if constexpr (std::derived_from<decltype(Machine::console), FastConsole>) {
      if (options_.translate) translation = translate<FastConsole>(*code);
    }
    Rom rom{.image = cartridge.image,
            .properties = facts.properties,
            .code = code.get(),
            .translation = translation.get()};
    const auto probe = std::make_unique<Machine>();
    probe->load(rom, cartridge.game, {});
    const Palette& palette = probe->console.tia.pal ? kPalPalette : kNtscPalette;
    const int height = probe->height();
    if (options_.mode != AtariEnvOptions::kDefault) {
      probe->mode = options_.mode;
      probe->reset(rom);
      if (probe->mode_not_found) {
        throw std::invalid_argument("mode=" + std::to_string(options_.mode) + ": " + name +
                                    " does not reach it");
      }
    }
    std::unique_ptr<Rehearsal> rehearsal;
    if constexpr (std::same_as<decltype(Machine::console), FastConsole>) {
      rehearsal = std::make_unique<Rehearsal>();
      if (options_.difficulty != AtariEnvOptions::kDefault) probe->difficulty = options_.difficulty;
      probe->rehearse(rom, *rehearsal);
    }
    if (options_.grayscale && pools()) rom.greys = palette.grey.data();
    return {.game = cartridge.game,
            .image = std::move(cartridge.image),
            .code = std::move(code),
            .translation = std::move(translation),
            .rom = rom,
            .palette = &palette,
            .height = height,
            .resize = Resize(height, kWidth, options_.img_height, options_.img_width,
                             static_cast<int>(channels())),
            .rehearsal = std::move(rehearsal)};
  }

  static void check(const char* what, int value, std::span<const std::int16_t> allowed,
                    const std::string& game) {
    if (value == AtariEnvOptions::kDefault || std::ranges::find(allowed, value) != allowed.end()) {
      return;
    }
    std::string text;
    for (const std::int16_t one : allowed) {
      text += (text.empty() ? "" : ", ") + std::to_string(one);
    }
    throw std::invalid_argument(std::string(what) + "=" + std::to_string(value) + ": " + game +
                                " has " + text);
  }

  AtariEnvOptions options_;
  std::vector<int> actions_;
  std::vector<Title> titles_;
  std::size_t screen_size_ = 0;
};

template <typename Machine>
class AtariEnv {
 public:
  using Shared = AtariShared<Machine>;
  static constexpr std::array<const char*, 3> kInfo{"lives", "frame_number",
                                                    "episode_frame_number"};
  static constexpr std::uint64_t kMaxSeed = 0x7FFFFFFF;
  static constexpr int kFrameWidth = 160;

  AtariEnv(const Shared& shared, int index, std::uint64_t first_seed) noexcept
      : kind_(static_cast<std::size_t>(index) % shared.titles().size()),
        seed_(static_cast<std::uint32_t>(first_seed & kMaxSeed)) {}

  /// Which of the titles this is.
  [[nodiscard]] std::size_t kind() const noexcept { return kind_; }

  /// The next reset inserts the cartridge anew.
  void seed(std::uint64_t value) noexcept {
    seed_ = static_cast<std::uint32_t>(value);
    seeded_ = true;
  }

  void reset(const Lent<Shared>& lent) noexcept {
    const AtariEnvOptions& options = lent.shared.options();
    const Rom& rom = title(lent).rom;
    const Rehearsal* const rehearsal = title(lent).rehearsal.get();
    if (seeded_) load(lent);
    machine_.reset(rom, rehearsal);
    int noops = draw_noops(options.noop_max);
    if (options.use_fire_reset && lent.shared.has_action(kFire)) {
      --noops;
      static_cast<void>(machine_.act(rom, kFire, 1.0F, !options.ram && noops <= 0));
    }
    for (; noops > 0; --noops) {
      static_cast<void>(machine_.act(rom, actions::kNoop, 1.0F, !options.ram && noops == 1));
      if (machine_.terminal()) machine_.reset(rom, rehearsal);
    }
    std::ranges::fill(lent.memory, std::uint8_t{0});
    Changes changes{};
    if (!options.ram) capture(lent, false, nullptr, changes);
    process(lent, changes);
    elapsed_ = 0;
    lives_ = machine_.lives();
  }

  /// The pool has checked that the action's number is in [0, shared.num_actions()).
  [[nodiscard]] GameTransition step(const Lent<Shared>& lent, Action action) noexcept {
    const AtariEnvOptions& options = lent.shared.options();
    const int number = lent.shared.action(action.number);
    const bool pools = lent.shared.pools();
    const std::uint8_t* older = nullptr;
    Changes changes{};
    std::int32_t reward = 0;
    bool life_lost = false;
    bool over = false;
    // A game that ends leaves the screens as they were captured before: those of the last step too.
    for (int left = options.frameskip; left > 0 && !over; --left) {
      const bool captured = !options.ram && left <= (pools ? 2 : 1);
      reward += machine_.act(title(lent).rom, number, action.strength, captured);
      ++elapsed_;
      life_lost = machine_.lives() < lives_ && machine_.lives() > 0;
      over = machine_.terminal() || elapsed_ >= options.max_num_frames_per_episode ||
             (options.episodic_life && life_lost);
      if (!captured) continue;
      if (left == 2) {
        older = kept_screen(lent);
      } else if (!over) {
        capture(lent, pools, older, changes);
      } else if (pools) {
        capture_older(lent, older, changes);
      }
    }
    process(lent, changes);
    lives_ = machine_.lives();

    const bool terminated =
        machine_.terminal() || ((options.life_loss_info || options.episodic_life) && life_lost);
    const bool out_of_time = elapsed_ >= options.max_num_frames_per_episode;
    const std::int32_t clipped = std::clamp(reward, -1, 1);
    return {.told = {.reward = static_cast<float>(options.reward_clipping ? clipped : reward),
                     .terminated = terminated,
                     .truncated = out_of_time && !terminated},
            .raw_reward = static_cast<float>(reward),
            .game_over = over};
  }

  /// Writes shared.obs_shape(): the stack, oldest picture first.
  void observe(const Lent<Shared>& lent, std::span<std::uint8_t> obs) const noexcept {
    const std::size_t size = lent.shared.picture_size();
    auto out = obs.begin();
    for (std::size_t i = 1; i <= lent.shared.stack_size(); ++i) {
      const std::size_t slot = (newest_ + i) % lent.shared.stack_size();
      out = std::ranges::copy(picture(lent, slot).first(size), out).out;
    }
  }

  [[nodiscard]] std::array<std::int32_t, 3> info() const noexcept {
    return {machine_.lives(), machine_.total_frames, machine_.episode_frames};
  }

  [[nodiscard]] int frame_height(const Lent<Shared>& lent) const noexcept {
    return title(lent).height;
  }
  /// Writes (frame_height(), 160, 3) red, green, blue.
  void render(const Lent<Shared>& lent, std::span<std::uint8_t> rgb) noexcept {
    recolour(RgbRow(*title(lent).palette), screen(lent), rgb.data());
  }

 protected:
  [[nodiscard]] const Machine& machine() const noexcept { return machine_; }
  [[nodiscard]] const typename Shared::Title& title(const Lent<Shared>& lent) const noexcept {
    return lent.shared.titles()[kind_];
  }

 private:
  static constexpr int kFire = 1;

  void load(const Lent<Shared>& lent) noexcept {
    const AtariEnvOptions& options = lent.shared.options();
    noops_ = Mt19937(seed_);
    machine_.load(title(lent).rom, title(lent).game,
                  {.seed = seed_, .repeat_action_probability = options.repeat_action_probability},
                  title(lent).rehearsal.get());
    if (options.mode != AtariEnvOptions::kDefault) machine_.mode = options.mode;
    if (options.difficulty != AtariEnvOptions::kDefault) machine_.difficulty = options.difficulty;
    seeded_ = false;
  }

  /// Uniform in [0, max(noop_max, 1)), as std::uniform_int_distribution of libstdc++ draws it.
  int draw_noops(int noop_max) noexcept {
    const auto range = static_cast<std::uint32_t>(std::max(noop_max, 1));
    const std::uint32_t threshold = -range % range;
    std::uint64_t product = std::uint64_t{noops_.next()} * range;
    while (static_cast<std::uint32_t>(product) < threshold) {
      product = std::uint64_t{noops_.next()} * range;
    }
    return static_cast<int>(product >> 32U);
  }

  [[nodiscard]] std::span<const std::uint8_t> screen(const Lent<Shared>& lent) noexcept {
    return rows_of(lent, machine_.screen());
  }
  [[nodiscard]] std::span<const std::uint8_t> rows_of(const Lent<Shared>& lent,
                                                      const std::uint8_t* screen) const noexcept {
    return {screen, static_cast<std::size_t>(title(lent).height * kFrameWidth)};
  }
  /// The next frame leaves this one as it is, unless it goes on with it: then here is a copy.
  [[nodiscard]] const std::uint8_t* kept_screen(const Lent<Shared>& lent) noexcept {
    if (!machine_.console.tia.frame_open) return nullptr;
    auto* copy = reinterpret_cast<std::uint8_t*>(lent.scratch.data());
    std::ranges::copy(screen(lent), copy);
    return copy;
  }
  /// The last two frames of a step, pooled.
  [[nodiscard]] static std::uint8_t* captured(const Lent<Shared>& lent) noexcept {
    return lent.memory.data();
  }
  [[nodiscard]] static std::span<std::uint8_t> picture(const Lent<Shared>& lent,
                                                       std::size_t slot) noexcept {
    return lent.memory.subspan(lent.shared.screen_size() + (slot * lent.shared.picture_size()));
  }

  /// `pooled`: with the frame before, which is `older` if that was kept.
  void capture(const Lent<Shared>& lent, bool pooled, const std::uint8_t* older,
               Changes& changes) noexcept {
    const bool both = pooled && older == nullptr;
    const auto greys = both ? machine_.grey_screens(title(lent).rom) : Console::Screens{};
    const bool painted_grey = greys.newest != nullptr;
    const std::uint8_t* const newest = painted_grey ? greys.newest : machine_.screen();
    if (painted_grey) {
      older = greys.older;
    } else if (older == nullptr) {
      older = both ? machine_.older_screen() : newest;
    }
    changes = machine_.changed_rows();
    if (!both || !captured_both_) changes.fill(true);
    captured_both_ = both;
    const auto use = [&](const auto& row) {
      pool(row, rows_of(lent, newest), older, captured(lent), changes);
    };
    if (painted_grey) {
      use(PaintedGreyRow());
    } else {
      with_colours(lent, *title(lent).palette, use);
    }
  }

  /// The newest frame is not captured: what is there of the last step counts once more.
  void capture_older(const Lent<Shared>& lent, const std::uint8_t* older,
                     Changes& changes) noexcept {
    if (older == nullptr) older = machine_.older_screen();
    captured_both_ = false;
    with_colours(lent, *title(lent).palette, [&](const auto& row) {
      pool_another(row, std::span(older, screen(lent).size()), captured(lent), changes);
    });
  }

  /// Puts the newest picture on the stack. `changes` are those of the captured frame.
  void process(const Lent<Shared>& lent, const Changes& changes) noexcept {
    const std::span<std::uint8_t> last = picture(lent, newest_);
    newest_ = (newest_ + 1) % lent.shared.stack_size();
    const std::span<std::uint8_t> to = picture(lent, newest_);
    if (lent.shared.options().ram) {
      std::ranges::copy(machine_.ram(), to.begin());
      return;
    }
    title(lent).resize.update(captured(lent), to.data(), lent.scratch.data(), last.data(), changes);
  }

  template <typename Use>
  static void with_colours(const Lent<Shared>& lent, const Palette& palette, Use use) noexcept {
    if (lent.shared.options().grayscale) {
      use(GreyRow(palette));
    } else {
      use(RgbRow(palette));
    }
  }

  Machine machine_;
  Mt19937 noops_;
  std::size_t kind_;
  std::uint32_t seed_;
  bool seeded_ = true;          ///< The cartridge is to be inserted with `seed_`.
  std::size_t newest_ = 0;      ///< Of the stack's pictures.
  bool captured_both_ = false;  ///< The captured frame is the console's two screens, pooled.
  int elapsed_ = 0;             ///< Frames since the game began, without those of its reset.
  std::int32_t lives_ = 0;      ///< After the last step.
};

static_assert(HostedEnv<AtariEnv<PlainAtari>> && HostedEnv<AtariEnv<FastAtari>>);

}  // namespace fastrl::envs::atari
