// SPDX-License-Identifier: Apache-2.0
import Migration
import Testing

@testable import Helper

/// What fuzzing has found of the helper (docs/fuzzing.md), each with the shortest way to it.
@Suite("What a fuzzer has found of the helper")
struct FuzzFindingTests {
  @Test("a session that has ended for a number that is taken twice, or for another version, does nothing more")
  func endIsTheEnd() {
    var bench = HelperSessionBench()
    let number = bench.ask(.addDevice(HelperSessionBench.device(1)))
    bench.actions = bench.session.handle(.request(number, .status))
    #expect(bench.actions.count == 2)
    #expect(bench.session.handle(.request(9, .status)).isEmpty)
    #expect(bench.session.handle(.finished(number, .device(HelperSessionBench.info(1)))).isEmpty)
    var stranger = HelperSessionBench(greeted: false)
    stranger.ask(.hello(major: 2, minor: 0, features: [], version: ""))
    stranger.actions = []
    stranger.ask(.hello(major: 1, minor: 0, features: [], version: ""))
    #expect(stranger.actions.isEmpty)
  }
}
