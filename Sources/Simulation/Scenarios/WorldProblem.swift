// SPDX-License-Identifier: Apache-2.0

extension WorldDescription {
  /// The most connections of all NICs together.
  static let mostConnections = 131_072

  /// Why it can't be played, in words, with the names that a scenario file has for its parts; nil where it can.
  public var problem: String? {
    firstProblem.map { "\($0.text.problem): expected \($0.text.expected)" }
  }

  /// The first problem, and the keys that it is about.
  var firstProblem: (text: ScenarioTextProblem, keys: [String])? {
    let file = ScenarioFile(world: self)
    for key in ScenarioKey.all where !key.allows(key.read(file)) {
      return (ScenarioTextProblem("\(key.name) is \(key.text(key.read(file)))", expected: key.expected), [key.name])
    }
    if retransmission.limitMicroseconds < retransmission.baseMicroseconds {
      let base = ScenarioUnit.time.text(UInt64(retransmission.baseMicroseconds))
      return (
        ScenarioTextProblem("timeout-limit is shorter than timeout", expected: "at least \(base)"),
        ["timeout", "timeout-limit"]
      )
    }
    if nics * connections > Self.mostConnections {
      return (
        ScenarioTextProblem(
          "\(nics) NICs with \(connections) connections each",
          expected: "\(Self.mostConnections) connections of all NICs together at most"), ["nics", "connections"]
      )
    }
    if remapsBuffers && workload == .nicGPU {
      return (
        ScenarioTextProblem("remap-buffers yes where a GPU answers", expected: "workload nic with it"),
        ["workload", "remap-buffers"]
      )
    }
    if channel.flips.contains(where: { !(0...7 ~= $0.bit) }) {
      return (ScenarioTextProblem("a flip of a bit that no byte has", expected: "bit 0 to 7"), [])
    }
    return nil
  }
}
