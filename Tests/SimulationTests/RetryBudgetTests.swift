// SPDX-License-Identifier: Apache-2.0
import Migration
import Testing

@testable import Simulation

@Suite("A retry budget, held against the simulated NIC")
struct RetryBudgetTests {
  /// A connection between two NICs whose first packet, and all others before that time, are lost.
  /// - Returns: how its one request ended; nil where it never did.
  private func end(_ budget: RetryBudget, silence: UInt64, _ operation: RDMAWorkRequest.Operation) throws
    -> RDMACompletion.Status?
  {
    var settings = RetransmissionSettings()
    settings.kind = budget.scheme
    // Whole microseconds, and none shorter than what is promised.
    settings.baseMicroseconds = UInt32(((budget.timeoutNanoseconds ?? 0) + 999) / 1000)
    settings.limitMicroseconds = .max
    settings.retries = budget.retries
    var pair = try RDMAPair(settings)
    let wasLost = pair.post(operation, inSilenceUntil: silence)
    #expect(wasLost)
    pair.run(until: 100_000_000)
    return pair.completions().first?.status
  }

  @Test(
    "no silence within the budget breaks a connection, and none outlives the longest",
    arguments: RetransmissionScheme.allCases, 0...7)
  func held(scheme: RetransmissionScheme, retries: Int) throws {
    var random = SeededGenerator(seed: UInt64(retries) + 1)
    for timeout in 3...10 {
      let budget = try #require(RetryBudget(scheme: scheme, timeout: timeout, retries: retries))
      let tolerated = try #require(budget.toleratedNanoseconds) / 1000
      let longest = try #require(budget.longestNanoseconds) / 1000
      for operation in [RDMAWorkRequest.Operation.write, .read, .fetchAdd] {
        if tolerated > 0 {
          for silence in [tolerated, 1 + UInt64(random.next(below: Int(tolerated)))] {
            #expect(try end(budget, silence: silence, operation) == .success, "\(timeout), \(silence) us")
          }
        }
        for silence in [longest + 1, longest + 1 + UInt64(random.next(below: 10_000))] {
          #expect(try end(budget, silence: silence, operation) == .retriesExceeded, "\(timeout), \(silence) us")
        }
      }
    }
  }

  @Test("with exact timers the last retransmission decides", arguments: RetransmissionScheme.allCases, 1...7)
  func exact(scheme: RetransmissionScheme, retries: Int) throws {
    // 16.384 ms: what is rounded up to whole microseconds is far below one of them.
    let budget = try #require(RetryBudget(scheme: scheme, timeout: 12, retries: retries))
    let last = try #require(budget.timeouts).untilLastRetransmission / 1000
    #expect(try end(budget, silence: last, .write) == .success)
    // Each time-out is at most a microsecond longer here.
    #expect(try end(budget, silence: last + 256, .write) == .retriesExceeded)
  }

  @Test("a peer that finds no receive waits as long as its budget says", arguments: 0...7)
  func receiver(retries: Int) throws {
    let budget = try #require(ReceiverBudget(timer: 12, retries: retries))
    var settings = RetransmissionSettings()
    settings.receiverNotReadyRetries = retries
    var pair = try RDMAPair(settings)
    pair.post([RDMAPair.work(.send)])
    // What the simulated responder asks for is its own; what counts is how often the peer takes it.
    pair.run(until: 5_000_000)
    let asked = pair.sent.count { $0.operation == .receiverNotReady }
    if budget.toleratedNanoseconds == nil {
      #expect(pair.completions() == [] && asked > 7)
    } else {
      #expect(pair.completions().map(\.status) == [.receiverNotReadyRetriesExceeded] && asked == retries + 1)
    }
  }
}

extension RDMAPair {
  /// Posts one request, of which everything is lost that is sent before that time.
  /// - Returns: whether anything was lost.
  fileprivate mutating func post(_ operation: RDMAWorkRequest.Operation, inSilenceUntil end: UInt64) -> Bool {
    arrives = { _, _ in false }
    post([RDMAPair.work(operation)])
    let wasLost = !sent.isEmpty
    // What happens at that moment is heard.
    run(until: end - 1)
    arrives = { _, _ in true }
    return wasLost
  }
}
