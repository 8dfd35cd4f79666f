// SPDX-License-Identifier: Apache-2.0
import Migration
import Testing

@Suite("The recovery ladder")
struct RecoveryLadderTests {
  static let full = StateGraph(features: [.stopCopy, .p2p, .preCopy])

  static func ladder(resetAllowed: Bool = true) -> RecoveryLadder {
    RecoveryLadder(graph: full, resetAllowed: resetAllowed)
  }

  /// Climbs as long as the device does what it is asked.
  static func climb(
    _ ladder: inout RecoveryLadder, from start: MigrationState, to target: MigrationState
  ) -> [RecoveryLadder.Rung] {
    var state = start
    var rungs: [RecoveryLadder.Rung] = []
    while rungs.count < 20 {
      let rung = ladder.next(from: state, to: target)
      rungs.append(rung)
      switch rung {
      case .arrived, .report: return rungs
      case .request(let next): state = next
      case .reset:
        ladder.noteReset()
        state = .running
      }
    }
    return rungs
  }

  @Test("a device that is where it should be has arrived")
  func arrived() {
    var ladder = Self.ladder()
    #expect(ladder.next(from: .running, to: .running) == .arrived)
  }

  @Test("the way to the named state is taken arc by arc")
  func arcs() {
    var ladder = Self.ladder()
    ladder.noteFailure(of: .runningP2P, recovering: false)
    #expect(
      Self.climb(&ladder, from: .stopCopy, to: .running)
        == [.request(.stop), .request(.runningP2P), .request(.running), .arrived])
  }

  @Test(
    "after a failure on the way to a stop the way back leads through stop, whatever state the device reports",
    arguments: [MigrationState.stop, .stopCopy])
  func throughStop(target: MigrationState) {
    var ladder = Self.ladder()
    ladder.noteFailure(of: target, recovering: false)
    #expect(ladder.mustPassStop)
    #expect(
      Self.climb(&ladder, from: .preCopyP2P, to: .running)
        == [.request(.runningP2P), .request(.stop), .request(.runningP2P), .request(.running), .arrived])
    ladder.noteFailure(of: target, recovering: false)
    #expect(
      Self.climb(&ladder, from: .running, to: .running)
        == [.request(.runningP2P), .request(.stop), .request(.runningP2P), .request(.running), .arrived])
  }

  @Test(
    "a device in error or in resuming is reset where that is allowed", arguments: [MigrationState.error, .resuming])
  func reset(state: MigrationState) {
    var allowed = Self.ladder()
    #expect(
      Self.climb(&allowed, from: state, to: .stop)
        == [.reset, .request(.runningP2P), .request(.stop), .arrived])
    var forbidden = Self.ladder(resetAllowed: false)
    #expect(forbidden.next(from: state, to: .running) == .report)
  }

  @Test("a device that holds half a state is reset, allowed or not")
  func demandedReset() {
    var ladder = Self.ladder(resetAllowed: false)
    ladder.demandReset()
    #expect(Self.climb(&ladder, from: .stop, to: .running) == [.reset, .arrived])
  }

  @Test("after two failures of its own the ladder asks for no more states")
  func failureLimit() {
    for (resetAllowed, last) in [(true, RecoveryLadder.Rung.reset), (false, .report)] {
      var ladder = Self.ladder(resetAllowed: resetAllowed)
      ladder.noteFailure(of: .runningP2P, recovering: false)
      for _ in 0..<RecoveryLadder.failureLimit {
        #expect(ladder.next(from: .stop, to: .running) == .request(.runningP2P))
        ladder.noteFailure(of: .runningP2P, recovering: true)
      }
      #expect(ladder.next(from: .stop, to: .running) == last)
    }
  }

  @Test("a device is reset once, and then reported")
  func oneReset() {
    var ladder = Self.ladder()
    #expect(ladder.next(from: .error, to: .running) == .reset)
    // The reset failed: nothing was noted.
    #expect(ladder.next(from: .error, to: .running) == .report)
    var again = Self.ladder()
    #expect(again.next(from: .error, to: .running) == .reset)
    again.noteReset()
    #expect(again.next(from: .error, to: .running) == .report)
  }

  @Test("after a reset arcs may be tried afresh")
  func afterReset() {
    var ladder = Self.ladder()
    ladder.noteFailure(of: .stop, recovering: true)
    ladder.noteFailure(of: .stop, recovering: true)
    #expect(ladder.next(from: .runningP2P, to: .runningP2P) == .reset)
    ladder.noteReset()
    #expect(Self.climb(&ladder, from: .running, to: .runningP2P) == [.request(.runningP2P), .arrived])
  }
}
