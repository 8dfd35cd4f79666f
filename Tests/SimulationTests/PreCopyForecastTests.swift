// SPDX-License-Identifier: Apache-2.0
import Migration
import Simulation
import Testing

/// The pre-copy loop with links, guests and devices of many kinds, in memory without content.
@Suite("What the pre-copy loop foretells")
struct PreCopyForecastTests {
  /// A move that was played, and what had been foretold of its stop.
  private struct Trial: CustomStringConvertible {
    let seed: UInt64
    let summary: SimulationSummary
    var foretold: UInt64 { summary.decisions.last?.forecast.downtime ?? 0 }
    var actual: UInt64 { summary.downtimeMicroseconds ?? 0 }

    /// In per mille of what it was.
    var ratio: UInt64 { actual == 0 ? 0 : foretold * 1000 / actual }

    var description: String {
      "seed \(seed): \(foretold) us foretold, \(actual) us were it; \(summary.decisions.last.map { "\($0)" } ?? "")"
    }
  }

  /// Plays a move of the kind that a seed draws, knowing from another one on the same hosts what stopping and loading cost.
  private static func trial(_ seed: UInt64, knowsCosts: Bool = true) -> Trial {
    var drawn = MovingGuest(seed: seed)
    if knowsCosts { drawn.learn() }
    return Trial(seed: seed, summary: run(drawn.scenario).summary)
  }

  @Test("is within 15 % of the downtime in nine of ten cases, and never optimistic by more than 30 %")
  func accuracy() {
    let trials = (1...80 as ClosedRange<UInt64>).map { Self.trial($0) }
    for trial in trials {
      #expect(trial.summary.violations == [] && trial.summary.isVerified, "\(trial)")
      #expect(trial.ratio >= 700, "\(trial)")
      guard let decision = trial.summary.decisions.last, decision.verdict == .stop else { continue }
      #expect(trial.foretold <= decision.limit)
    }
    let close = trials.count { (850...1150).contains($0.ratio) }
    #expect(close * 10 >= trials.count * 9, "\(trials.filter { !(850...1150).contains($0.ratio) })")
  }

  @Test("without costs that were measured before, the arcs so far stand in: nine of ten cases within 15 % all the same")
  func withoutCosts() {
    let trials = (1...60 as ClosedRange<UInt64>).map { Self.trial($0, knowsCosts: false) }
    let close = trials.count { (850...1150).contains($0.ratio) }
    #expect(close * 10 >= trials.count * 9, "\(trials.filter { !(850...1150).contains($0.ratio) })")
  }
}
