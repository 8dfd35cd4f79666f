// SPDX-License-Identifier: Apache-2.0
import ArgumentParser
import Foundation
import Testing

@testable import vfio_ferry

struct BudgetCommandTests {
  private func output(_ arguments: [String]) throws -> String {
    let collector = Collector()
    try BudgetCommand.parse(arguments).execute(collector.console)
    #expect(collector.err.isEmpty)
    return collector.out
  }

  @Test("it says what is tolerated, when it breaks, what breaks first, and what to set")
  func text() throws {
    let text = try output([
      "--timeout", "14", "--retries", "7", "--rnr-timer", "12", "--rnr-retries", "6", "--downtime", "400",
    ])
    #expect(
      text == """
        time-out 14               67.1 ms    fixed
        silence surely tolerated  469.7 ms   7 time-outs, then the last retransmission
        broken, timers exact      536.8 ms   8 time-outs
        broken at the latest      2147.4 ms  a time-out may last four times as long
        without a receive         3840 us    6 times 640 us
        breaks first: the retries for want of a receive (IBV_WC_RNR_RETRY_EXC_ERR)
        downtime 400.0 ms and 50 %: 600.0 ms: NOT OUTLASTED
        set: timeout 15, retry_cnt 7: tolerates 939.5 ms
        without a receive: NOT OUTLASTED; set: rnr_retry 7, or on the guest's side min_rnr_timer 27: tolerates 737.2 ms

        """)
  }

  @Test("adaptive time-outs are counted as the less patient of two readings, and more retries are offered")
  func adaptive() throws {
    let text = try output(["--timeout", "14", "--retries", "3", "--adaptive", "--downtime", "1000", "--margin", "0"])
    #expect(
      text == """
        time-out 14               67.1 ms    adaptive
        silence surely tolerated  134.2 ms   NVIDIA's: none longer than the one set, 3 times that in all
        broken, timers exact      1006.6 ms  time-outs that double from 14 on
        broken at the latest      4026.5 ms  a time-out may last four times as long
        breaks first: the retries (IBV_WC_RETRY_EXC_ERR)
        downtime 1000.0 ms and 0 %: 1000.0 ms: NOT OUTLASTED
        set: timeout 17, retry_cnt 3: tolerates 1073.7 ms
        set: timeout 16, retry_cnt 7: tolerates 1610.6 ms

        """)
  }

  @Test("without a time-out nothing breaks, and that this mends nothing is said")
  func never() throws {
    let text = try output(["--timeout", "0", "--retries", "7", "--rnr-timer", "1", "--rnr-retries", "7"])
    #expect(text.contains("for ever") && text.contains("never sent again") && text.contains("nothing"), "\(text)")
  }

  @Test("no time-out lasts a day and a half with margin where nothing is sent again")
  func impossible() throws {
    let text = try output(["--timeout", "14", "--retries", "0", "--downtime", "86400000"])
    #expect(text.contains("no time-out lasts that long"), "\(text)")
  }

  @Test("its JSON has units in its keys, and null for what has no end")
  func json() throws {
    let text = try output(["--timeout", "0", "--retries", "7", "-j"])
    #expect(
      text == #"{"scheme":"fixed","timeout":0,"timeout_ns":null,"retries":7,"tolerated_ns":null,"nominal_ns":null,"#
        + #""longest_ns":null,"receiver":null,"breaks_first":null,"downtime":null}"# + "\n")
    let asked = try output([
      "--timeout", "14", "--retries", "7", "--rnr-timer", "12", "--rnr-retries", "6", "--downtime", "400", "-j",
    ])
    #expect(
      asked == #"{"scheme":"fixed","timeout":14,"timeout_ns":67108864,"retries":7,"tolerated_ns":469762048,"#
        + #""nominal_ns":536870912,"longest_ns":2147483648,"receiver":{"timer":12,"timer_ns":640000,"retries":6,"#
        + #""tolerated_ns":3840000},"breaks_first":"receiver_not_ready","downtime":{"downtime_ns":400000000,"#
        + #""margin_percent":50,"needed_ns":600000000,"outlasts":false,"settings":[{"timeout":15,"retries":7,"#
        + #""tolerated_ns":939524096}],"receiver_outlasts":false,"receiver_settings":{"timer":27,"timer_ns":122880000,"#
        + #""retries":6,"tolerated_ns":737280000}}}"# + "\n")
  }

  @Test(
    "what no queue pair can be set to is misuse",
    arguments: [
      "--timeout 32 --retries 7", "--timeout -1 --retries 7", "--timeout 14 --retries 8", "--timeout 14",
      "--timeout 14 --retries 7 --rnr-timer 32 --rnr-retries 1", "--timeout 14 --retries 7 --rnr-timer 1",
      "--timeout 14 --retries 7 --rnr-retries 1", "--timeout 14 --retries 7 --rnr-timer 1 --rnr-retries 8",
      "--timeout 14 --retries 7 --downtime 0", "--timeout 14 --retries 7 --downtime 18446744073709551615",
      "--timeout 14 --retries 7 --downtime 1 --margin 1001", "--timeout x --retries 7",
    ])
  func misuse(line: String) {
    #expect(throws: (any Error).self) { try BudgetCommand.parse(line.split(separator: " ").map(String.init)) }
  }
}
