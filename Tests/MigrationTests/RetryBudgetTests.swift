// SPDX-License-Identifier: Apache-2.0
import Migration
import Testing

@Suite("How long a peer puts up with silence")
struct RetryBudgetTests {
  private func budget(_ scheme: RetransmissionScheme, _ timeout: Int, _ retries: Int) throws -> RetryBudget {
    try #require(RetryBudget(scheme: scheme, timeout: timeout, retries: retries))
  }

  @Test(
    "a time-out is 4.096 us, doubled as often as the field says",
    arguments: [(1, 8_192), (8, 1_048_576), (14, 67_108_864), (20, 4_294_967_296), (31, 8_796_093_022_208)])
  func timeouts(timeout: Int, nanoseconds: UInt64) {
    #expect(RetryBudget.nanoseconds(ofTimeout: timeout) == nanoseconds)
  }

  /// By hand: 67,108,864 ns is time-out 14, 1,048,576 ns time-out 8.
  @Test(
    "fixed time-outs tolerate one for each retry, and end with one more",
    arguments: [
      (14, 7, 469_762_048, 536_870_912), (14, 1, 67_108_864, 134_217_728), (14, 0, 0, 67_108_864),
      (8, 3, 3_145_728, 4_194_304),
    ] as [(Int, Int, UInt64, UInt64)])
  func fixed(timeout: Int, retries: Int, tolerated: UInt64, nominal: UInt64) throws {
    let budget = try budget(.fixed, timeout, retries)
    #expect(budget.toleratedNanoseconds == tolerated)
    #expect(budget.nominalNanoseconds == nominal)
    #expect(budget.longestNanoseconds == 4 * nominal)
  }

  @Test(
    "adaptive ones tolerate one less for sure, and may double at every retry",
    arguments: [
      (14, 7, 402_653_184, 255 * 67_108_864), (14, 1, 0, 3 * 67_108_864), (14, 0, 0, 67_108_864),
      (8, 3, 2_097_152, 15 * 1_048_576),
    ] as [(Int, Int, UInt64, UInt64)])
  func adaptive(timeout: Int, retries: Int, tolerated: UInt64, nominal: UInt64) throws {
    let budget = try budget(.exponential, timeout, retries)
    #expect(budget.toleratedNanoseconds == tolerated)
    #expect(budget.nominalNanoseconds == nominal)
  }

  @Test("no time-out doubles beyond the longest that there is, and nothing overflows")
  func longest() throws {
    let budget = try budget(.exponential, 30, 7)
    // The first is half of the longest, and seven are the longest.
    let sum: UInt64 = 4_398_046_511_104 + 7 * 8_796_093_022_208
    #expect(budget.nominalNanoseconds == sum)
    let longest: UInt64 = 4 * 8 * 8_796_093_022_208
    #expect(try self.budget(.exponential, 31, 7).longestNanoseconds == longest)
  }

  @Test("0 is no time-out: the connection never breaks, and 0 is never what is to be set")
  func never() throws {
    for scheme in RetransmissionScheme.allCases {
      let budget = try budget(scheme, 0, 7)
      #expect(
        budget.toleratedNanoseconds == nil && budget.nominalNanoseconds == nil && budget.longestNanoseconds == nil)
      #expect(RetryBudget.outlasting(nanoseconds: 0, scheme: scheme, retries: 7)?.timeout == 1)
    }
  }

  @Test("what no queue pair can be set to is no budget")
  func outside() {
    for (timeout, retries) in [(-1, 0), (32, 0), (0, -1), (0, 8), (.max, 7), (7, .min)] {
      #expect(RetryBudget(scheme: .fixed, timeout: timeout, retries: retries) == nil)
      #expect(ReceiverBudget(timer: timeout, retries: retries) == nil)
    }
  }

  @Test("the setting for a silence is the smallest that tolerates it", arguments: RetransmissionScheme.allCases, 0...7)
  func smallest(scheme: RetransmissionScheme, retries: Int) throws {
    for timeout in 1...31 {
      let tolerated = try #require(try budget(scheme, timeout, retries).toleratedNanoseconds)
      if tolerated == 0 { continue }
      #expect(RetryBudget.outlasting(nanoseconds: tolerated, scheme: scheme, retries: retries)?.timeout == timeout)
      let next = RetryBudget.outlasting(nanoseconds: tolerated + 1, scheme: scheme, retries: retries)?.timeout
      #expect(next == (timeout == 31 ? nil : timeout + 1))
    }
    if retries == 0 { #expect(RetryBudget.outlasting(nanoseconds: 1, scheme: scheme, retries: 0) == nil) }
  }

  /// The specification's table, in microseconds.
  @Test("the timers for want of a receive are those of the specification's table")
  func receiverTimers() {
    let table: [UInt64] = [
      655_360, 10, 20, 30, 40, 60, 80, 120, 160, 240, 320, 480, 640, 960, 1_280, 1_920, 2_560, 3_840, 5_120, 7_680,
      10_240,
      15_360, 20_480, 30_720, 40_960, 61_440, 81_920, 122_880, 163_840, 245_760, 327_680, 491_520,
    ]
    #expect(
      ReceiverBudget.timers.compactMap { ReceiverBudget(timer: $0, retries: 1)?.timerNanoseconds }
        == table.map { $0 * 1000 })
  }

  @Test("a peer waits so often for a receive, and with 7 for ever")
  func receiver() {
    #expect(ReceiverBudget(timer: 12, retries: 6)?.toleratedNanoseconds == 6 * 640_000)
    #expect(ReceiverBudget(timer: 12, retries: 0)?.toleratedNanoseconds == 0)
    #expect(ReceiverBudget(timer: 12, retries: 7)?.toleratedNanoseconds == nil)
    #expect(ReceiverBudget.outlasting(nanoseconds: 3_840_001, retries: 6)?.timer == 13)
    // The longest is number 0.
    #expect(ReceiverBudget.outlasting(nanoseconds: 600_000_000, retries: 1)?.timer == 0)
    #expect(ReceiverBudget.outlasting(nanoseconds: 655_360_001, retries: 1) == nil)
    #expect(ReceiverBudget.outlasting(nanoseconds: .max, retries: 7)?.timer == 1)
  }
}
