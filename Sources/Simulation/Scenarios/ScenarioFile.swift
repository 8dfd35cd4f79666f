// SPDX-License-Identifier: Apache-2.0
internal import Migration

/// How the two sessions of a move are to behave, as far as a scenario file can say.
public struct MoveSettings: Hashable, Sendable {
  /// Microseconds that the VM takes to stop its vCPUs: 0 to an hour.
  public var vcpuStopMicroseconds: UInt64 = 100
  /// Microseconds that a step of the group may take until a device that does not answer is reported as hung: 1 to an
  /// hour.
  public var stepLimitMicroseconds: UInt64 = 5_000_000
  /// Whether the source may reset a device that nothing else brings back.
  public var sourceMayReset = false
  /// Whether the destination may.
  public var destinationMayReset = false

  /// The defaults of a move.
  public init() {}
}

/// A scenario as a text file has it: a world, how it is moved, and what goes wrong. docs/scenario-files.md describes
/// the format.
public struct ScenarioFile: Hashable, Sendable {
  /// The world.
  public var world: WorldDescription
  /// How it is moved.
  public var settings = MoveSettings()
  /// What goes wrong, in the order of the file.
  public var faults: [ScenarioFault] = []

  /// A world that is moved, with nothing that goes wrong.
  public init(world: WorldDescription) { self.world = world }

  /// What goes wrong, a line each, as a file has them.
  public var faultDescriptions: [String] { faults.map(\.description) }

  /// The scenario with its faults. A fault of a device that the world has not is left out.
  /// - Parameter seed: decides what is left to chance.
  public func scenario(seed: UInt64) -> Scenario {
    var scenario = Scenario(world: world, seed: seed)
    scenario.vcpuStopMicroseconds = settings.vcpuStopMicroseconds
    scenario.save.quiescing.stepLimit = settings.stepLimitMicroseconds
    scenario.load.quiescing.stepLimit = settings.stepLimitMicroseconds
    scenario.save.resetAllowed = settings.sourceMayReset
    scenario.load.resetAllowed = settings.destinationMayReset
    for fault in faults where fault.device.map({ $0 < world.devices }) ?? true { fault.happen(in: &scenario) }
    return scenario
  }

  /// The lines of a file that make this out of another one. Names don't count.
  func lines(since other: ScenarioFile) -> [String] {
    let changed = ScenarioKey.all.filter { $0.read(self) != $0.read(other) }.map { $0.line($0.read(self)) }
    return changed + faults.filter { !other.faults.contains($0) }.map(\.description)
  }
}
