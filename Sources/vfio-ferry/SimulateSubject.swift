// SPDX-License-Identifier: Apache-2.0
internal import LinuxIO
internal import Migration
internal import Simulation
internal import Transport

/// What `simulate` is to play: a world that comes with the program, or a file that somebody wrote.
enum SimulateSubject {
  case builtIn(BuiltInWorld)
  case file(path: String, ScenarioFile)

  /// One move of it.
  struct Move {
    let scenario: Scenario
    /// Each fault that was written or drawn, in words.
    let faults: [String]
  }

  /// - Parameter argument: a built-in scenario's name, or a path.
  init(_ argument: String) throws(CommandFailure) {
    if let world = BuiltInWorld(rawValue: argument) {
      self = .builtIn(world)
      return
    }
    if !Files.exists(argument) {
      let names = BuiltInWorld.allCases.map(\.rawValue).joined(separator: ", ")
      throw .nothing("there is no scenario and no file \(argument); built in are \(names)")
    }
    let text: String
    do throws(SystemError) {
      text = try Files.readText(argument)
    } catch {
      throw .failed("\(error)")
    }
    if text.utf8.count >= Files.maximumTextSize { throw .failed("\(argument): a scenario has less than 1 MiB") }
    do throws(ScenarioFileError) {
      self = .file(path: argument, try ScenarioFile.parse(text, name: argument))
    } catch {
      throw .failed("\(error)")
    }
  }

  /// As the command line names it.
  var name: String {
    switch self {
    case .builtIn(let world): world.rawValue
    case .file(let path, _): path
    }
  }

  /// What its world is like.
  var world: WorldDescription {
    switch self {
    case .builtIn(let world): world.description
    case .file(_, let file): file.world
    }
  }

  /// A move of it.
  /// - Parameters:
  ///   - changes: how the world differs from what is written.
  ///   - drawsFaults: whether the seed decides on faults; they take the place of a file's own.
  func move(seed: UInt64, changes: SimulateChanges, drawsFaults: Bool) -> Move {
    let changed = changes.applied(to: world)
    if drawsFaults {
      let (scenario, faults) = Scenario.withFaults(world: changed, seed: seed)
      return Move(scenario: scenario, faults: faults)
    }
    guard case .file(_, var file) = self else {
      return Move(scenario: Scenario(world: changed, seed: seed), faults: [])
    }
    file.world = changed
    return Move(scenario: file.scenario(seed: seed), faults: file.faultDescriptions)
  }
}

/// What the command line changes in a world, to hold against how it is.
struct SimulateChanges: Hashable {
  /// NICs come to rest once every message that was begun is finished (against DA4).
  var drains = false
  /// How peers' time-outs grow; nil leaves them (DA3).
  var timeouts: PeerTimeouts?

  /// Whether anything is changed.
  var isEmpty: Bool { self == SimulateChanges() }

  /// The world with these changes.
  func applied(to world: WorldDescription) -> WorldDescription {
    var world = world
    if drains { world.quiescing = .drainingMessages }
    switch timeouts {
    case .fixed: world.retransmission.kind = .fixed
    case .exponential: world.retransmission.kind = .exponential
    case nil: break
    }
    return world
  }

  /// The options that say so.
  var arguments: [String] {
    var words = drains ? ["--drain"] : []
    if let timeouts { words += ["--timeouts", timeouts.rawValue] }
    return words
  }
}

extension SimulatedWorld {
  /// A world that is ready to begin.
  /// - Throws: why these devices can't be moved.
  static func ready(_ scenario: Scenario) throws(CommandFailure) -> SimulatedWorld {
    let world: SimulatedWorld
    do throws(QuiesceRefusal) {
      world = try SimulatedWorld(scenario, checksum: .xxh3)
    } catch {
      throw .refused("\(error)")
    }
    if let refusal = world.refusal { throw .refused(refusal) }
    return world
  }
}
