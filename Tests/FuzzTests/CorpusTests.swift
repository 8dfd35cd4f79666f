// SPDX-License-Identifier: Apache-2.0
import FuzzTargets
import Testing

/// What tools/fuzz has found worth keeping, without a fuzzer: every change runs it.
@Suite("What a fuzzer has found, again", .serialized)
struct CorpusTests {
  /// How many more inputs a target gets; the whole server takes long over each.
  private static func mutants(of target: FuzzTarget) -> Int {
    switch target.name {
    case "server": 60
    case "registers": 40
    case "receiver": 200
    default: 1500
    }
  }

  @Test(
    "no input that was kept, and none that is like it, has a target do wrong", arguments: FuzzTarget.all.map(\.name))
  func replay(name: String) throws {
    let target = try #require(FuzzTarget.all.first { $0.name == name })
    let inputs = try FuzzCorpus.inputs(of: target)
    #expect(!inputs.isEmpty)
    for input in inputs { try run(target, input) }
    var mutation = Mutation(seed: 4711)
    for _ in 0..<Self.mutants(of: target) { try run(target, mutation.mutant(of: inputs)) }
  }

  private func run(_ target: FuzzTarget, _ input: [UInt8]) throws {
    do {
      try target.run(input)
    } catch {
      let digits = input.map { ($0 < 16 ? "0" : "") + String($0, radix: 16) }.joined()
      Issue.record("\(target.name), with \(digits): \(error)")
    }
  }
}
