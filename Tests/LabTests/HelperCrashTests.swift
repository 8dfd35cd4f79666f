// SPDX-License-Identifier: Apache-2.0
import Foundation
import LinuxIO
import Synchronization
import Testing

extension LabTests {
  /// Real processes that die by SIGKILL in the middle of a move, and links that are cut: what is left has to be what
  /// docs/helper-protocol.md promises.
  @Suite(.serialized, .enabled(if: Lab.synthetic))
  struct HelperCrashTests {
    /// How many moves are under way at once. Each waits most of the time.
    private static let workers = 4

    private struct Result: Sendable {
      var row: [String]
      var faults: [String]
    }

    /// Runs all of them, some at the same time.
    private func playAll(_ names: [String], _ play: @escaping @Sendable (Int) throws -> CrashRun) throws -> [Result] {
      let results = Mutex([Result?](repeating: nil, count: names.count))
      let next = Atomic(0)
      try withExtendedLifetime(next) {
        let threads = try (0..<Self.workers).map { _ in
          try BlockingThread(name: "crashes") {
            while true {
              let index = next.wrappingAdd(1, ordering: .relaxed).oldValue
              guard index < names.count else { return }
              let result: Result
              do {
                let run = try play(index)
                result = Result(
                  row: run.places + [run.runner, run.recovery],
                  faults: run.faults.isEmpty
                    ? [] : ["\(names[index]): " + run.faults.joined(separator: "; ") + "\n" + run.text])
              } catch {
                result = Result(row: ["?"], faults: ["\(names[index]): \(error)"])
              }
              results.withLock { $0[index] = result }
            }
          }
        }
        for thread in threads { thread.join() }
      }
      return results.withLock { $0.compactMap { $0 } }
    }

    private func show(_ rows: [[String]]) {
      let widths = (0..<6).map { column in rows.map { $0.indices.contains(column) ? $0[column].count : 0 }.max() ?? 0 }
      for row in rows {
        let cells = zip(row, widths).map { $0.padding(toLength: $1, withPad: " ", startingAt: 0) }
        print(cells.joined(separator: "  "))
      }
    }

    @Test("whoever dies, at whatever step of a move: never two sides run, and a new helper brings back what is stuck")
    func everyStep() throws {
      try #require(FileManager.default.fileExists(atPath: ExampleVMM.program), "tools/vmm-example/build makes it")
      let cases = CrashCase.all
      let results = try playAll(cases.map { "\($0.victim.rawValue) at \($0.step)" }) {
        try CrashRun.play(cases[$0], number: $0)
      }
      show(
        [["who died", "at", "source devices", "destination devices", "who runs", "a new helper"]]
          + zip(cases, results).map { [$0.victim.rawValue, "\($0.step)"] + $1.row })
      #expect(results.count == cases.count)
      for result in results { #expect(result.faults.isEmpty, "\(result.faults.joined())") }
    }

    /// A victim, and the line of a VMM's output with which it is struck: that is at a moment which no step names.
    private struct Moment: Sendable {
      let victim: CrashCase.Victim
      let side: CrashCase.Side
      let lines: Int

      init(seed: UInt64) {
        var state = seed
        func next(_ count: Int) -> Int {
          // SplitMix64.
          state &+= 0x9e37_79b9_7f4a_7c15
          var z = (state ^ (state >> 30)) &* 0xbf58_476d_1ce4_e5b9
          z = (z ^ (z >> 27)) &* 0x94d0_49bb_1331_11eb
          return Int((z ^ (z >> 31)) % UInt64(count))
        }
        victim = CrashCase.Victim.allCases.filter { $0 != .link }[next(4)]
        side = next(2) == 0 ? .source : .destination
        lines = 4 + next(44)
      }
    }

    @Test("whoever dies, in the middle of whatever: never two sides run, and all that tells of it agrees")
    func anyMoment() throws {
      let moments = (1...8).map { Moment(seed: $0) }
      let results = try playAll(moments.map { "\($0)" }) { index in
        let moment = moments[index]
        return try CrashRun.play(moment.victim, when: moment.side, hasSaid: moment.lines, number: 1000 + index)
      }
      show(zip(moments, results).map { [$0.victim.rawValue, "line \($0.lines) of the \($0.side.rawValue)"] + $1.row })
      #expect(results.count == moments.count)
      for result in results { #expect(result.faults.isEmpty, "\(result.faults.joined())") }
    }
  }
}
